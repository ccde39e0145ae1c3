/** One word of a command line that is printed to be copied into a POSIX shell. */
export function shellQuote(text: string): string {
  return /^[\w@%+=:,./][\w@%+=:,./-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
