import {
  boundJwk,
  type CallerClaims,
  callerClaims,
  LIMIT_NAMES,
  namePattern,
  SCOPES,
  type Scope,
  subject,
} from '../shared/claims.ts';
import { type AgentCredential, parseCredential } from '../shared/credential.ts';
import type { Ed25519Jwk } from '../shared/jose.ts';
import { MAX_KEY_BYTES } from './config.ts';
import { UsageError } from './io.ts';
import { readInputFile } from './read-input.ts';

const UNIT_SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;

/** Seconds of `45s`, `30m`, `12h` or `90d`. */
export function parseDuration(text: string): number {
  const [, count, unit] = /^([1-9]\d{0,8})([smhd])$/.exec(text) ?? [];
  if (count === undefined) throw new UsageError(`'${text}' is no time span: write one like 30m, 12h or 90d`);
  return Number(count) * UNIT_SECONDS[unit as keyof typeof UNIT_SECONDS];
}

/** The shortest way to write that many seconds. */
export function formatDuration(seconds: number): string {
  const [unit, size] = Object.entries(UNIT_SECONDS).findLast(([, each]) => seconds % each === 0) ?? ['s', 1];
  return `${seconds / size}${unit}`;
}

/** Names or patterns from options that may be repeated and may each hold several, separated by commas. */
export function parseNames(option: string, values: readonly string[]): string[] {
  const names = splitWords(values);
  for (const name of names) {
    if (namePattern.safeParse(name).success) continue;
    throw new UsageError(
      `${option}: '${name}' is no name: use 1 to 63 of a-z, 0-9 and -, with * at the end only`,
    );
  }
  if (names.length === 0) throw new UsageError(`${option} names nothing`);
  return names;
}

export function parseScopeNames(values: readonly string[]): Scope[] {
  return splitWords(values).map((word) => {
    const scope = SCOPES.find((each) => each === word);
    if (scope === undefined) throw new UsageError(`--scope: '${word}' is none of ${SCOPES.join(', ')}`);
    return scope;
  });
}

/** `name=value` of each `--limit`. */
export function parseLimits(values: readonly string[]): NonNullable<CallerClaims['limits']> {
  const limits: Record<string, number> = {};
  for (const value of values) {
    const [, name = '', digits] = /^([a-z_]+)=(\d{1,15})$/.exec(value) ?? [];
    if (digits === undefined || !LIMIT_NAMES.some((each) => each === name)) {
      throw new UsageError(
        `--limit: '${value}' is no limit: write name=number with a name of ${LIMIT_NAMES.join(', ')}`,
      );
    }
    limits[name] = Number(digits);
  }
  const parsed = callerClaims.shape.limits.unwrap().safeParse(limits);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new UsageError(`--limit ${issue?.path.join('.')}: ${issue?.message}`);
  }
  return parsed.data;
}

export function parseSubject(sub: string): string {
  if (subject.safeParse(sub).success) return sub;
  throw new UsageError('--sub is 1 to 512 characters, fewer if many of them need escaping');
}

export function parseCount(option: string, text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new UsageError(`${option}: '${text}' is no whole number from 1 on`);
}

/** The public half from a JWK file. A private one is refused, so that nobody gets used to handing it around. */
export async function readPublicKey(path: string, signal: AbortSignal): Promise<Ed25519Jwk> {
  const value: unknown = await readInputFile(path, { name: path, maxBytes: MAX_KEY_BYTES, signal })
    .then((bytes) => JSON.parse(bytes.toString()))
    .catch(() => {
      throw new UsageError(`${path} is no JWK that can be read: it is one JSON object with kty, crv and x`);
    });
  const isObject = typeof value === 'object' && value !== null;
  if (isObject && 'd' in value) {
    throw new UsageError(
      `${path} holds a private key: take the member d out and keep the original with the agent`,
    );
  }
  const { kty, crv, x } = (isObject ? value : {}) as Record<string, unknown>;
  const jwk = boundJwk.safeParse({ kty, crv, x });
  if (!jwk.success) throw new UsageError(`${path} is no Ed25519 public key (kty OKP, crv Ed25519, x)`);
  return jwk.data;
}

/** What 'podgate agents token' printed, from a file. */
export async function readCredentialFile(path: string, signal: AbortSignal): Promise<AgentCredential> {
  const bytes = await readInputFile(path, { name: path, maxBytes: MAX_KEY_BYTES, signal });
  try {
    return parseCredential(bytes.toString());
  } catch (cause) {
    throw new UsageError(`${path}: ${(cause as Error).message}`);
  }
}

function splitWords(values: readonly string[]): string[] {
  return [...new Set(values.flatMap((value) => value.split(/[\s,]+/)).filter((word) => word !== ''))];
}
