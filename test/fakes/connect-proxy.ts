import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';

export type ConnectProxy = AsyncDisposable & {
  readonly url: string;
  /** Where each way was asked for to, as HOST:PORT. */
  readonly asked: readonly string[];
  /** Takes what comes, and says nothing. */
  silent: boolean;
  /** Connections to the proxy, whatever became of them on the other side. */
  readonly connections: number;
};

/** An HTTP proxy on loopback that makes ways through itself (CONNECT): all to one port, which it alone knows the way to. */
export async function startConnectProxy(target: number): Promise<ConnectProxy> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('connect', ({ url = '' }, socket: Socket) => {
    socket.on('error', () => socket.destroy());
    asked.push(url);
    if (proxy.silent) {
      // Else it would never hear that the other side has gone.
      socket.on('end', () => socket.destroy()).resume();
      return;
    }
    const beyond = connect(target, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      beyond.pipe(socket).pipe(beyond);
    });
    beyond.on('error', () => socket.destroy());
    socket.on('close', () => beyond.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  const proxy: ConnectProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    silent: false,
    get connections() {
      return sockets.size;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
  return proxy;
}
