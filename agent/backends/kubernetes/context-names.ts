/** Contexts that a sentence names. */
export const MAX_NAMED_CONTEXTS = 10;

/** `'a', 'b' and 3 more`. */
export function contextNames(names: readonly string[]): string {
  const named = names.slice(0, MAX_NAMED_CONTEXTS).map((name) => `'${name}'`);
  const more = names.length - named.length;
  return `${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
