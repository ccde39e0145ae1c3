import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { Failure } from '../../shared/errors.ts';

/**
 * Listens and resolves to the port. Rejects with a Failure that names the address.
 *
 * @param setting What the port is set by.
 */
export function listen(server: Server, host: string, port: number, setting: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const onError = (cause: NodeJS.ErrnoException) => {
      const why =
        cause.code === 'EADDRINUSE' ? 'something listens there already' : (cause.code ?? cause.message);
      const detail = `The gateway cannot listen on ${host}:${port}: ${why}. Choose another port with ${setting}.`;
      reject(new Failure('internal', detail, { cause }));
    };
    server.once('error', onError);
    server.listen(port, host, () => {
      server.off('error', onError);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/** Takes no more connections. Resolves when the last one has ended; those that are idle end now. */
export async function stopListening(server: Server): Promise<void> {
  // Behind a look at the sockets: who connected or asked before this is taken, and not reset.
  await setImmediate();
  await new Promise<void>((resolve) => server.close(() => resolve()));
}

/** Waits for a server that listens no more, at most `deadlineMs`, then cuts what is left. */
export async function closeServer(
  server: Server,
  deadlineMs: number,
  closed: Promise<void> = stopListening(server),
): Promise<void> {
  await setImmediate();
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), deadlineMs);
  await closed;
  clearTimeout(timer);
}
