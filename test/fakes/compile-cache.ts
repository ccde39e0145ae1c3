import { fileURLToPath } from 'node:url';

/**
 * For Node processes that tests start: what was compiled, and stripped of types, once is kept for the next of them. Half
 * of the time that a command takes goes there.
 */
export const COMPILE_CACHE = {
  NODE_COMPILE_CACHE: fileURLToPath(new URL('../../node_modules/.cache/podgate-tests', import.meta.url)),
} as const;

/** For those whose time is measured as on a machine that never ran them. */
export const NO_COMPILE_CACHE = { NODE_DISABLE_COMPILE_CACHE: '1' } as const;
