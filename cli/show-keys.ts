import { describeSource } from '../gateway/auth/documents.ts';
import { DEFAULT_AUDIENCE, KEY_KINDS, type KeyKind, TYP, tokenId } from '../shared/claims.ts';
import { isCredential, parseCredential } from '../shared/credential.ts';
import { keyringDocument } from '../shared/ids.ts';
import { importKeySet, keySetDocument } from '../shared/key-set.ts';
import { readToken, type TokenParts, verifyKey } from '../shared/keys.ts';
import { readDenyFile } from './deny-file.ts';
import { UsageError } from './io.ts';
import { findIssuer, hasKeyFolder, KEY_FILES, readFolderIssuers, readKeyFile } from './key-folder.ts';
import { formatDuration } from './key-options.ts';

/** What the folder holds, without anything secret. */
export async function describeFolder(dir: string): Promise<unknown> {
  const issuers = await readFolderIssuers(dir);
  const deny = await readDenyFile(dir);
  const ids = keyringDocument.safeParse(JSON.parse(await readKeyFile(dir, KEY_FILES.ids)));
  return {
    folder: dir,
    issuers: issuers.map(({ kind, trust, keys }) => ({
      kind,
      issuer: trust.issuer,
      audience: trust.audience,
      ...(trust.tenant === undefined ? { tenant_claim: trust.tenantClaim } : { tenant: trust.tenant }),
      max_lifetime: formatDuration(trust.maxLifetimeSeconds),
      keys: 'inline' in keys ? 'inline' : describeSource(keys),
    })),
    signing_keys: Object.fromEntries(
      await Promise.all(KEY_KINDS.map(async (kind) => [kind, await readKids(dir, kind)] as const)),
    ),
    id_keys: ids.success ? ids.data.keys.map(({ kid }) => kid) : 'not readable',
    revoked: { keys: deny.jti.length, subjects: deny.sub.length },
  };
}

/** What a key says, and whether a gateway with this folder would accept it now. Of a credential only the token is shown. */
export async function describeToken(dir: string, text: string, nowMs: number): Promise<unknown> {
  const token = isCredential(text) ? parseCredential(text).token : text;
  const parts = readToken(token);
  if ('ok' in parts) throw new UsageError('this is no key: a key is three parts of letters joined by dots');
  const { header, claims } = parts;
  const kind = KEY_KINDS.find((each) => TYP[each] === header.typ);
  const time = (value: unknown) =>
    typeof value === 'number' && value < 8.64e12 ? new Date(value * 1000).toISOString() : null;
  return {
    kind:
      kind === undefined ? 'not a key of Podgate' : `${kind} (audience ${DEFAULT_AUDIENCE[kind]} by default)`,
    ...(isCredential(text) && { credential: 'has the private key that the token is bound to' }),
    header,
    claims,
    issued: time(claims.iat),
    expires: time(claims.exp),
    verdict: await judge(dir, token, parts, kind, nowMs),
  };
}

/** The `jti` of a key, a token or a credential; anything else is taken for a `jti` itself. */
export function readTokenId(text: string): string {
  const token = isCredential(text) ? parseCredential(text).token : text;
  const parts = readToken(token);
  const jti = tokenId.safeParse('ok' in parts ? text : parts.claims.jti);
  const looksLikeToken = text.split('.').length === 3 && text.startsWith('ey');
  if (jti.success && !(looksLikeToken && 'ok' in parts)) return jti.data;
  throw new UsageError('this is neither a key nor the id of one (jti)');
}

async function judge(
  dir: string,
  token: string,
  { claims }: TokenParts,
  kind: KeyKind | undefined,
  nowMs: number,
): Promise<string> {
  if (kind === undefined) return 'refused: wrong_typ';
  if (!(await hasKeyFolder(dir))) return `not checked: there are no keys in ${dir}`;
  const { trust } = await findIssuer(dir, kind);
  if (claims.iss !== trust.issuer) return 'not checked: another issuer made it';
  const keys = await importKeySet(JSON.parse(await readKeyFile(dir, KEY_FILES[`${kind}Public`])));
  const verdict = await verifyKey(token, { kind, trust, nowMs, findKey: async (kid) => keys.get(kid) });
  if (!verdict.ok) return `refused: ${verdict.reason}`;
  const deny = await readDenyFile(dir);
  const { jti, sub, iss } = verdict.claims;
  const revoked = deny.jti.includes(jti) || deny.sub.some((each) => each.issuer === iss && each.sub === sub);
  return revoked ? 'refused: revoked' : `accepted, tenant ${verdict.tenant}`;
}

async function readKids(dir: string, kind: KeyKind): Promise<unknown[]> {
  const { keys } = keySetDocument.parse(JSON.parse(await readKeyFile(dir, KEY_FILES[`${kind}Public`])));
  return keys.map(({ kid }) => kid);
}
