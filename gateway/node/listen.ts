import type { Server } from 'node:http';
import { type AddressInfo, Server as NetServer } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { Failure } from '../../shared/errors.ts';

/** Node's own backlog: more do not wait. */
const MAX_WAITING = 511;

/**
 * Listens and resolves to the port. Rejects with a Failure that names the address. From then on a connection that cannot be
 * taken, as where all descriptors are used up, is lost, and nothing else: unheard, Node's event would end the process.
 *
 * @param setting What the port is set by.
 */
export function listen(server: Server, host: string, port: number, setting: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const onError = (cause: NodeJS.ErrnoException) => {
      const detail = `The gateway cannot listen on ${host}:${port}: ${whatToDo(cause, setting)}`;
      reject(new Failure('internal', detail, { cause }));
    };
    server.once('error', onError);
    server.listen(port, host, () => {
      server.off('error', onError).on('error', () => {});
      resolve((server.address() as AddressInfo).port);
    });
  });
}

function whatToDo({ code, message }: NodeJS.ErrnoException, setting: string): string {
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return `that is no address of this machine (${code}). Choose another with HOST.`;
  const why = code === 'EADDRINUSE' ? 'something listens there already' : (code ?? message);
  return `${why}. Choose another port with ${setting}.`;
}

/** Takes no more connections. Resolves when the last one has ended. */
export async function stopListening(server: Server): Promise<void> {
  await takeWaiting(server);
  // HTTP's own would end those that are idle, and a request that is on its way there would be lost.
  await new Promise<void>((resolve) => NetServer.prototype.close.call(server, () => resolve()));
}

/**
 * Takes the connections that wait in the kernel, and what those that are open have sent: closing would reset them. One
 * connection is accepted a turn of the event loop.
 */
async function takeWaiting(server: Server): Promise<void> {
  let idleTurns = 0;
  const onConnection = () => {
    idleTurns = 0;
  };
  server.on('connection', onConnection);
  // The turn in which this begins may be past its look at the sockets.
  for (let turn = 0; idleTurns < 2 && turn < MAX_WAITING; turn += 1) {
    idleTurns += 1;
    await setImmediate();
  }
  server.off('connection', onConnection);
}

export type CloseServerOptions = {
  /** That of a server which was told to listen no more. */
  closed?: Promise<void>;
  /** Ends every connection. HTTP's own passes over those that are upgraded. */
  cut?: () => void;
};

/** Waits for a server that listens no more, at most `deadlineMs`, then cuts what is left. */
export async function closeServer(
  server: Server,
  deadlineMs: number,
  { closed = stopListening(server), cut = () => server.closeAllConnections() }: CloseServerOptions = {},
): Promise<void> {
  // As long as whoever stops it takes who waits: this would end the listener at once, and them with it.
  await takeWaiting(server);
  // Once more: those that are idle end now.
  server.close();
  const timer = setTimeout(cut, deadlineMs);
  await closed;
  clearTimeout(timer);
}
