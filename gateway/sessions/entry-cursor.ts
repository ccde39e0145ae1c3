import { invalid } from '../http/parse-json.ts';

// A name need be no UTF-8: what is none of its bytes comes as a lone surrogate (PEP 383), which no URL holds. It is
// spelled as in JSON, where any other name is itself.

/** Where a page of a folder ends, by the name of its last entry. */
export function toEntryCursor(name: string): string {
  return JSON.stringify(name).slice(1, -1);
}

/** The name that a cursor stands for. Throws `invalid_request`. */
export function readEntryCursor(cursor: string): string {
  try {
    const name: string = JSON.parse(`"${cursor}"`);
    if (!/[^\P{Surrogate}\udc80-\udcff]/u.test(name)) return name;
  } catch {
    // No JSON is no cursor either.
  }
  throw invalid([{ path: 'cursor', message: 'cursor is not one that this list gave' }]);
}
