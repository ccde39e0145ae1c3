export const V5 = 'v5.channel.k8s.io';
export const V4 = 'v4.channel.k8s.io';
/** What is offered, the best first. */
export const EXEC_PROTOCOLS: readonly string[] = [V5, V4];
/** The first byte of a message. */
export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, status: 3, close: 255 } as const;
