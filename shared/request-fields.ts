import * as z from 'zod';
import { MAX_ENV_BYTES, MAX_ENV_VARIABLES, MAX_NAME_BYTES, MAX_PATH_BYTES } from './limits.ts';

const encoder = new TextEncoder();

/** Text that has bytes: a lone surrogate has none. */
export const text = z
  .string()
  .refine((value) => value.isWellFormed(), 'must be valid Unicode: a lone surrogate has no UTF-8 form');
export const noNul = text.refine((value) => !value.includes('\0'), 'must not contain NUL');

/** Where the code of a one-shot execution lies, by its language. */
export const MAIN_FILES = { python: '__main__.py', bash: '__main__.sh', node: '__main__.js' } as const;

/** Says that a file may not take the code's own path. */
export function reservedPath(path: string): string {
  return `File path '${path}' is reserved for the execution entrypoint.`;
}

/** UTF-8 that a UTF-16 unit may take. */
const MAX_UNIT_BYTES = 3;

/** As a caller wrote it, before it is taken apart: what normalising may shrink is bounded too. */
const MAX_RAW_PATH_LENGTH = 2 * MAX_PATH_BYTES;

/**
 * A relative path, normalised (`./a//b` is `a/b`): no `..` component, at most 4096 bytes, components at most 255; empty is
 * where it is relative to. Its messages speak of `these`.
 */
export function relativePath(these: string, maxRawLength: number) {
  return noNul.transform((path, context) => {
    const refuse = (message: string) => {
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    };
    const tooLong = `${these} must not exceed ${MAX_PATH_BYTES} bytes.`;
    if (path.startsWith('/')) return refuse(`${these} must be relative.`);
    if (path.length > maxRawLength) return refuse(tooLong);
    const parts = path.split('/').filter((part) => part !== '' && part !== '.');
    if (parts.includes('..')) return refuse(`${these} must not contain '..'.`);
    const normal = parts.join('/');
    if (encoder.encode(normal).byteLength > MAX_PATH_BYTES) return refuse(tooLong);
    if (parts.some(isTooLong)) return refuse(`File names must not exceed ${MAX_NAME_BYTES} bytes.`);
    return normal;
  });
}

/** Short names are not encoded: of many paths of many names each would hold the process for seconds. */
function isTooLong(name: string): boolean {
  return name.length > MAX_NAME_BYTES / MAX_UNIT_BYTES && encoder.encode(name).byteLength > MAX_NAME_BYTES;
}

/**
 * A staged file's path. The messages are a contract with existing clients. Python's own file is nobody else's in any
 * language; another language's is judged where the language is known.
 */
export const filePath = relativePath('File paths', MAX_RAW_PATH_LENGTH)
  .refine((path) => path !== '', 'File path must not be empty.')
  .refine((path) => path !== MAIN_FILES.python, reservedPath(MAIN_FILES.python));

const base64 = z.base64('content_base64 is not base64');

export const requestFile = z
  .object({
    path: filePath,
    file_id: text.optional(),
    content: text.optional(),
    content_base64: base64.optional(),
  })
  .refine(
    (file) =>
      [file.file_id, file.content, file.content_base64].filter((source) => source !== undefined).length === 1,
    'give exactly one of file_id, content and content_base64',
  );

/** With one for the end of each, as a process is given them. */
export const byteSum = (values: readonly string[]) =>
  values.reduce((sum, value) => sum + encoder.encode(value).byteLength + 1, 0);

/** Counted before each entry is checked: a million of them, within a body's bound, would hold the process for seconds. */
export const env = z.preprocess(
  (variables: Record<string, string>, context) => {
    const fault = typeof variables === 'object' && variables !== null ? envFault(variables) : undefined;
    if (fault === undefined) return variables;
    context.addIssue({ code: 'custom', message: fault });
    return z.NEVER;
  },
  z
    .record(z.string(), noNul)
    .superRefine((variables, context) => {
      for (const name of Object.keys(variables))
        if (name === '' || /[=\0]/.test(name) || !name.isWellFormed())
          context.addIssue({
            code: 'custom',
            message: "names must not be empty, contain '=' or NUL, or be invalid Unicode",
            path: [name],
          });
    })
    .refine(
      (variables) => byteSum(Object.entries(variables).flat()) <= MAX_ENV_BYTES,
      `env must not exceed ${MAX_ENV_BYTES} bytes in all`,
    ),
);

function envFault(variables: Record<string, unknown>): string | undefined {
  // Whatever builds objects of it would set a prototype and lose the variable.
  if (Object.hasOwn(variables, '__proto__')) return "env must not name '__proto__'";
  const tooMany = Object.keys(variables).length > MAX_ENV_VARIABLES;
  return tooMany ? `env must not hold more than ${MAX_ENV_VARIABLES} variables` : undefined;
}

/** Whatever its size, a number is told the bound that it breaks and not that of integers. */
export const timeoutMs = (maxMs: number) =>
  z
    .int({
      error: ({ input }) => {
        if (typeof input !== 'number') return undefined;
        if (input > maxMs) return `timeout_ms exceeds maximum of ${maxMs} ms`;
        return input < 1 ? 'Too small: expected number to be >=1' : undefined;
      },
    })
    .min(1)
    .max(maxMs, `timeout_ms exceeds maximum of ${maxMs} ms`);
