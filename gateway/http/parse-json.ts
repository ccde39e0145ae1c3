import type * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import { MAX_JSON_COMMAS, MAX_JSON_DEPTH } from '../../shared/limits.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });
const [QUOTE, COMMA, COLON, BACKSLASH, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [
  34, 44, 58, 92, 91, 93, 123, 125,
];
const MAX_ERRORS = 32;
/** Members that are strict integers of the contract. */
const STRICT = new Set(['timeout_ms', 'queue_timeout_ms', 'ttl_seconds']);
/** The longest of them with all its characters escaped. */
const MAX_SPELLED = 6 * 'queue_timeout_ms'.length;
/** A number written with a fraction or an exponent: what `1000.0` says is lost by parsing. */
const FRACTION = /\s*-?\d+[.eE]/y;

/** A member of the outermost object that may be one of STRICT: its name as it is spelled. */
type Spelled = { name: string; isFraction: boolean };

/**
 * JSON in UTF-8, within MAX_JSON_DEPTH and MAX_JSON_COMMAS, its integers written as such. Throws `invalid_request` for
 * anything else.
 */
export function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    throw invalid([{ path: '', message: 'The request body is not UTF-8: send it as it is, uncompressed.' }]);
  }
  const spelled: Spelled[] = [];
  const excess = jsonExcess(text, (name, valueStart) => {
    if (!STRICT.has(name) && !name.includes('\\')) return;
    FRACTION.lastIndex = valueStart;
    spelled.push({ name, isFraction: FRACTION.test(text) });
  });
  if (excess) throw invalid([{ path: '', message: `The request body ${excess}.` }]);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid([{ path: '', message: 'The request body is not JSON.' }]);
  }
  requireIntegers(value as Record<string, unknown>, spelled);
  return value;
}

/** Of several members of one name the last counts, as it does in parsing. */
function requireIntegers(value: Record<string, unknown>, spelled: readonly Spelled[]): void {
  const last = new Map(
    spelled.map(({ name, isFraction }) => [JSON.parse(`"${name}"`) as string, isFraction]),
  );
  const errors = [...last]
    // Anything else of this name is for the schema to judge.
    .filter(([name, isFraction]) => isFraction && STRICT.has(name) && Number.isSafeInteger(value[name]))
    .map(([path]) => ({ path, message: 'Invalid input: expected int, received number' }));
  if (errors.length > 0) throw invalid(errors);
}

/** Checks a value against a schema. Throws `invalid_request` that lists what is wrong. */
export function checkSchema<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const checked = schema.safeParse(value);
  if (checked.success) return checked.data;
  const errors = new Map<string, { path: string; message: string }>();
  for (const { path, message } of checked.error.issues.slice(0, MAX_ERRORS)) {
    const error = { path: path.map(String).join('.'), message };
    // Two checks of one member may say the same.
    errors.set(JSON.stringify(error), error);
  }
  throw invalid([...errors.values()]);
}

/** 422 with `errors`; its `detail` is the first of them, with its path where the message does not speak for itself. */
export function invalid(errors: readonly { path: string; message: string }[]): Failure {
  const [first = { path: '', message: 'The request is not valid.' }] = errors;
  const generic = /^(Invalid|Too |Unrecognized|must |names must |give |use )/.test(first.message);
  const detail = generic && first.path !== '' ? `${first.path}: ${first.message}` : first.message;
  return new Failure('invalid_request', detail, { errors });
}

/**
 * What is too much in a JSON text, before it is parsed: a few MB of brackets would become gigabytes of arrays, and a
 * million names hold the process for seconds. Undefined where nothing is. `onMember` is told the short names of the
 * outermost object as they are spelled, and where their values begin.
 */
export function jsonExcess(
  text: string,
  onMember?: (name: string, valueStart: number) => void,
): string | undefined {
  let depth = 0;
  let commas = 0;
  let nameStart = 0;
  let nameEnd = 0;
  // Between two commas there is one name: what has more is no JSON, and all of them would be remembered.
  let isNamed = false;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code === QUOTE) {
      nameStart = index + 1;
      index = stringEnd(text, index);
      nameEnd = index;
    } else if (code === COLON) {
      if (depth !== 1 || isNamed) continue;
      isNamed = true;
      if (nameEnd - nameStart <= MAX_SPELLED) onMember?.(text.slice(nameStart, nameEnd), index + 1);
    } else if (code === COMMA) {
      commas += 1;
      if (depth === 1) isNamed = false;
      if (commas > MAX_JSON_COMMAS) return `holds more than ${MAX_JSON_COMMAS} values`;
    } else if (code === OPEN_ARRAY || code === OPEN_OBJECT) {
      depth += 1;
      if (depth > MAX_JSON_DEPTH) return `is nested more than ${MAX_JSON_DEPTH} deep`;
    } else if (code === CLOSE_ARRAY || code === CLOSE_OBJECT) depth -= 1;
  }
  return undefined;
}

/** Index of the quote that ends the string which begins at `start`; the text's length where none does. */
function stringEnd(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return end;
  }
  return text.length;
}
