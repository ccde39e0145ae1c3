import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';

/**
 * Counts from outside how often programs ran: the first thing each does is to say its name on a socket that sandboxes
 * see. What Podgate says of it can then be held against it.
 */
export type RunCounter = AsyncDisposable & {
  readonly at: CounterAddress;
  /** How often a program of this name has begun. */
  count(name: string): number;
  /** Names that have come more often than once. */
  doubled(): string[];
  /** Forgets a name whose execution is settled. */
  forget(name: string): void;
};

/** A socket's path, or an address of this machine with a port, for sandboxes that see no file of it. */
export type CounterAddress = string | { host: string; port: number };

const NAME_BYTES = 200;
const BACKLOG = 4_096;

export async function startRunCounter(on: { path: string } | { host: string }): Promise<RunCounter> {
  const counts = new Map<string, number>();
  const server = createServer((socket) => {
    let text = '';
    socket.setEncoding('utf8');
    socket.on('error', () => {});
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (text.length > NAME_BYTES) socket.destroy();
      if (!text.endsWith('\n')) return;
      const name = text.slice(0, -1);
      counts.set(name, (counts.get(name) ?? 0) + 1);
      // The program waits for this: once it goes on, it has been counted.
      socket.end('.');
    });
  });
  server.listen({ ...('path' in on ? on : { ...on, port: 0 }), backlog: BACKLOG });
  await once(server, 'listening');
  if ('path' in on) await chmod(on.path, 0o666);
  return {
    at: 'path' in on ? on.path : { host: on.host, port: (server.address() as AddressInfo).port },
    count: (name) => counts.get(name) ?? 0,
    doubled: () => [...counts].filter(([, count]) => count > 1).map(([name]) => name),
    forget: (name) => void counts.delete(name),
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, 'close');
    },
  };
}

/** Python that has itself counted before it does anything else. */
export function counted(at: CounterAddress, name: string): string {
  const [family, address] =
    typeof at === 'string'
      ? ['AF_UNIX', JSON.stringify(at)]
      : ['AF_INET', `(${JSON.stringify(at.host)}, ${at.port})`];
  return `
def _count():
    import _socket
    counter = _socket.socket(_socket.${family}, _socket.SOCK_STREAM)
    counter.connect(${address})
    counter.send(b${JSON.stringify(`${name}\n`)})
    counter.recv(1)
    counter.close()
_count()
`;
}
