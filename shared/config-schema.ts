import * as z from 'zod';
import { Failure } from './errors.ts';
import { printable } from './printable.ts';
import { Secret } from './secret.ts';

/** `process.env`, or what a test puts in its place. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** One schema per variable: text in, value out. Each one's message says what is allowed. */
export type VariableSchemas = Readonly<Record<string, z.ZodType>>;

export type EnvironmentOptions<Schemas extends VariableSchemas> = {
  /** Variables whose values no message may show. */
  secrets?: readonly (keyof Schemas & string)[];
  /** Other spellings: `{KUBERNETES_EXECUTOR_IMAGE: 'KUBERNETES_IMAGE'}`. Both at once must agree. */
  aliases?: Readonly<Record<string, keyof Schemas & string>>;
  /** `PODGATE_*` names that another part of the same command reads. */
  alsoKnown?: readonly string[];
};

const PREFIX = 'PODGATE_';

/**
 * Reads a process's variables, frozen. A variable that is empty counts as absent. Throws one `Failure`
 * (`invalid_request`) that names every variable at fault, its value unless secret, and what is allowed.
 */
export function readEnvironment<Schemas extends VariableSchemas>(
  schemas: Schemas,
  environment: Environment,
  options: EnvironmentOptions<Schemas> = {},
): { readonly [Name in keyof Schemas]: z.output<Schemas[Name]> } {
  const { secrets = [], aliases = {}, alsoKnown = [] } = options;
  const known = [...Object.keys(schemas), ...Object.keys(aliases), ...alsoKnown];
  const faults = unknownNames(environment, known);
  const values: Record<string, unknown> = {};
  for (const [name, schema] of Object.entries(schemas)) {
    const given = spellings(name, environment, aliases);
    const [first, other] = given;
    if (first && other && first.text !== other.text) {
      faults.push({ path: first.name, message: `${first.name} and ${other.name} differ; give one of them` });
      continue;
    }
    const checked = schema.safeParse(first?.text);
    if (checked.success) values[name] = checked.data;
    else faults.push(describe(first?.name ?? name, first?.text, checked.error, secrets.includes(name)));
  }
  if (faults.length > 0) {
    const detail = faults.map(({ message }) => (message.endsWith('?') ? message : `${message}.`)).join('\n');
    throw new Failure('invalid_request', detail, { errors: faults });
  }
  return Object.freeze(values) as { readonly [Name in keyof Schemas]: z.output<Schemas[Name]> };
}

type Fault = { path: string; message: string };

/**
 * `PODGATE_*` variables that nobody reads: a misspelt limit must not pass for a set one. Those that a Kubernetes
 * Service named `podgate…` injects into every pod are let through.
 */
export function unknownNames(environment: Environment, known: readonly string[]): Fault[] {
  const names = new Set(known);
  return Object.entries(environment).flatMap(([name, value]) => {
    if (!name.startsWith(PREFIX) || value === undefined || names.has(name)) return [];
    if (isServiceVariable(name, value)) return [];
    const near = nearest(name, known);
    const advice = near === undefined ? 'remove it' : `did you mean ${near}?`;
    return [{ path: name, message: `${name} is not a name that Podgate knows: ${advice}` }];
  });
}

function isServiceVariable(name: string, value: string): boolean {
  if (/_SERVICE_HOST$/.test(name) || /_SERVICE_PORT(_|$)/.test(name)) return true;
  if (/_PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)$/.test(name)) return true;
  return /_PORT(_|$)/.test(name) && /^(tcp|udp|sctp):\/\//.test(value);
}

function spellings(
  name: string,
  environment: Environment,
  aliases: Readonly<Record<string, string>>,
): { name: string; text: string }[] {
  const others = Object.keys(aliases).filter((alias) => aliases[alias] === name);
  return [name, ...others].flatMap((spelling) => {
    const text = environment[spelling];
    return text === undefined || text === '' ? [] : [{ name: spelling, text }];
  });
}

function describe(name: string, text: string | undefined, error: z.ZodError, secret: boolean): Fault {
  const allowed = error.issues[0]?.message ?? 'not valid';
  if (text === undefined) return { path: name, message: `${name} is not set: ${allowed}` };
  const shown = secret ? 'what it is set to is not accepted' : `'${beginningOf(text)}' is not accepted`;
  return { path: name, message: `${name}: ${shown}: ${allowed}` };
}

/** At most 120 characters of a value that goes to a terminal. */
function beginningOf(text: string): string {
  return printable(text.length > 120 ? `${text.slice(0, 120)}…` : text);
}

/** The known name within two edits, if there is one. */
function nearest(name: string, known: readonly string[]): string | undefined {
  const scored = known.map((candidate) => ({ candidate, distance: editDistance(name, candidate) }));
  scored.sort((a, b) => a.distance - b.distance);
  const [best] = scored;
  return best !== undefined && best.distance <= 2 ? best.candidate : undefined;
}

function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3;
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const above = row;
    row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      row.push(
        Math.min((above[j] as number) + 1, (row[j - 1] as number) + 1, (above[j - 1] as number) + cost),
      );
    }
  }
  return row[b.length] as number;
}

/** An integer in decimal digits. */
export function integerVariable(min: number, max: number) {
  const allowed = `use an integer from ${min} to ${max}`;
  return z
    .string({ error: allowed })
    .regex(/^-?\d{1,16}$/, allowed)
    .transform(Number)
    .pipe(z.int({ error: allowed }).min(min, allowed).max(max, allowed));
}

/** `true` or `false`, nothing else. */
export function booleanVariable() {
  return z.enum(['true', 'false'], { error: 'use true or false' }).transform((text) => text === 'true');
}

export function choiceVariable<const Choices extends readonly [string, ...string[]]>(choices: Choices) {
  return z.enum(choices, { error: `use ${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}` });
}

/** Text on one line. */
export function textVariable(allowed = 'use text on one line') {
  return z.string({ error: allowed }).regex(/^[^\0\r\n]+$/, allowed);
}

/** An absolute URL of one of `protocols` (`https:`), given back as written by the URL standard. */
export function urlVariable(protocols: readonly string[]) {
  const allowed = `use a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`;
  return z.string({ error: allowed }).transform((text, context) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (url && protocols.includes(url.protocol) && url.hostname !== '') return url;
    context.addIssue({ code: 'custom', message: allowed });
    return z.NEVER;
  });
}

/** Comma-separated, blanks around the items taken off. */
export function listVariable(allowed = 'use items separated by commas') {
  return textVariable(allowed).transform((text) =>
    text
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== ''),
  );
}

/** A value that never prints. Name it in `secrets` too, so that a refusal does not print it either. */
export function secretVariable(allowed = 'use text on one line') {
  return textVariable(allowed).transform((text) => new Secret(text));
}
