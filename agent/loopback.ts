const NAMES = new Set(['localhost', '[::1]', '::1']);

/** Whether a host's name or address, as a URL or a listener has it, is this machine alone. */
export function isLoopback(host: string): boolean {
  return NAMES.has(host) || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}
