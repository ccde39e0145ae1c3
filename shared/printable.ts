/** What a terminal obeys, and what turns the direction of the text around it. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
export const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Text that somebody else chose, safe to print on a terminal: control characters are escaped. */
export function printable(text: string): string {
  return text.replace(
    UNPRINTABLE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
