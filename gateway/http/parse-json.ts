import type * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import { MAX_JSON_COMMAS, MAX_JSON_DEPTH } from '../../shared/limits.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });
const [QUOTE, COMMA, BACKSLASH, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [
  34, 44, 92, 91, 93, 123, 125,
];
const MAX_ERRORS = 32;
/** Strict integers of the contract, written with a fraction or an exponent: what `1000.0` says is lost by parsing. */
const FRACTION = /"(timeout_ms|queue_timeout_ms|ttl_seconds)"\s*:\s*-?\d+(?=[.eE])/;

/**
 * JSON in UTF-8, within MAX_JSON_DEPTH and MAX_JSON_COMMAS, its integers written as such. Throws `invalid_request` for
 * anything else.
 */
export function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    throw invalid([{ path: '', message: 'The request body is not UTF-8.' }]);
  }
  const excess = jsonExcess(text);
  if (excess) throw invalid([{ path: '', message: `The request body ${excess}.` }]);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid([{ path: '', message: 'The request body is not JSON.' }]);
  }
  const name = FRACTION.exec(text)?.[1];
  // Anything else of this name is for the schema to judge.
  if (name !== undefined && Number.isSafeInteger((value as Record<string, unknown> | null)?.[name]))
    throw invalid([{ path: name, message: 'Invalid input: expected int, received number' }]);
  return value;
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
  const generic = /^(Invalid|Too |Unrecognized)/.test(first.message);
  const detail = generic && first.path !== '' ? `${first.path}: ${first.message}` : first.message;
  return new Failure('invalid_request', detail, { errors });
}

/**
 * What is too much in a JSON text, before it is parsed: a few MB of brackets would become gigabytes of arrays, and a
 * million names hold the process for seconds. Undefined where nothing is.
 */
export function jsonExcess(text: string): string | undefined {
  let depth = 0;
  let commas = 0;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code === QUOTE) {
      index = stringEnd(text, index);
    } else if (code === COMMA) {
      commas += 1;
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
