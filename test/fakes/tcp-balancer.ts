import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { createServer as createTlsServer, TLSSocket } from 'node:tls';

export type Target = { readonly name: string; readonly port: number };

/** One address before several servers, as a load balancer is that looks at connections only. */
export type TcpBalancer = AsyncDisposable & {
  readonly port: number;
  /** Whom new connections go to, in turn; one that refuses is passed over. Those that are open stay. */
  setTargets(targets: readonly Target[]): void;
  /** Where the connection leads whose caller's own port this is; undefined once it has ended. */
  targetOf(callerPort: number): string | undefined;
};

export type TcpBalancerOptions = {
  /** Ends TLS here, as an ingress does. */
  certificate?: { cert: string; key: string };
};

export async function startTcpBalancer({ certificate }: TcpBalancerOptions = {}): Promise<TcpBalancer> {
  const sockets = new Set<Socket>();
  const leads = new Map<number, string>();
  let targets: readonly Target[] = [];
  let turn = 0;

  function take(socket: Socket): void {
    hold(socket);
    const { remotePort = 0 } = socket;
    socket.on('close', () => leads.delete(remotePort));
    turn += 1;
    const order = targets.map((_, index) => targets[(turn + index) % targets.length] as Target);
    void lead(socket, remotePort, order);
  }

  async function lead(socket: Socket, callerPort: number, order: readonly Target[]): Promise<void> {
    for (const { name, port } of order) {
      const outer = connect({ port, host: '127.0.0.1', noDelay: true });
      hold(outer);
      try {
        await once(outer, 'connect');
      } catch {
        continue;
      }
      leads.set(callerPort, name);
      join(socket, outer);
      join(outer, socket);
      return;
    }
    socket.destroy();
  }

  function hold(socket: Socket): void {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => sockets.delete(socket));
  }

  const server = certificate
    ? createTlsServer({ ...certificate, noDelay: true }, take)
    : createServer({ noDelay: true }, take);
  server.on('tlsClientError', () => {});
  server.listen({ port: 0, host: '127.0.0.1', backlog: 2_048 });
  await once(server, 'listening');

  return {
    port: (server.address() as AddressInfo).port,
    setTargets: (wanted) => {
      targets = wanted;
    },
    targetOf: (callerPort) => leads.get(callerPort),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Bytes, ends and resets alike. */
function join(from: Socket, to: Socket): void {
  from.pipe(to);
  from.on('close', () => {
    if (!from.errored) to.destroySoon();
    else if (to instanceof TLSSocket) to.destroy();
    else to.resetAndDestroy();
  });
}
