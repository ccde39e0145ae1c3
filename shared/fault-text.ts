/** More than a stack of ours has. */
const MAX_CHARS = 2_000;

/** Of what was thrown that nobody foresaw, for the log: where it comes from, in at most 2,000 characters. */
export function faultText(cause: unknown): string {
  const text = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
  return text.slice(0, MAX_CHARS);
}
