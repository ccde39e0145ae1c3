import { printable, UsageError } from './io.ts';

/** An option's whole number. Throws UsageError for anything else. */
export function wholeNumber(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`${name} takes a whole number, not '${printable(text)}'`);
  return Number(text);
}
