import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { createServer } from 'node:net';

/**
 * Counts from outside how often programs ran: the first thing each does is to say its name on a socket that sandboxes
 * see. What Podgate says of it can then be held against it.
 */
export type RunCounter = AsyncDisposable & {
  readonly path: string;
  /** How often a program of this name has begun. */
  count(name: string): number;
  /** Names that have come more often than once. */
  doubled(): string[];
  /** Forgets a name whose execution is settled. */
  forget(name: string): void;
};

const NAME_BYTES = 200;
const BACKLOG = 4_096;

export async function startRunCounter(path: string): Promise<RunCounter> {
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
  server.listen({ path, backlog: BACKLOG });
  await once(server, 'listening');
  await chmod(path, 0o666);
  return {
    path,
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
export function counted(path: string, name: string): string {
  return `
def _count():
    import _socket
    counter = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    counter.connect(${JSON.stringify(path)})
    counter.send(b${JSON.stringify(`${name}\n`)})
    counter.recv(1)
    counter.close()
_count()
`;
}
