import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** What the proxy does to one direction of a connection. */
type Lane = { bytesPerSecond: number; nextAtMs: number };

export type TcpProxy = AsyncDisposable & {
  readonly port: number;
  /** Bytes per second in each direction, over all connections together; Infinity lifts the bound. */
  setRate(bytesPerSecond: number): void;
  /** Resets every connection. New ones are taken. */
  cut(): void;
  /** Moves no byte until told otherwise; connections stay up: a half-open peer. */
  stall(on: boolean): void;
  /** Takes new connections, or resets them at once. */
  accept(on: boolean): void;
  readonly connections: number;
};

/** Bytes that the slowed wire moves at a time: small, so that latency through it is that of a wire and not of a queue. */
const SLICE_BYTES = 8_192;

/**
 * A TCP proxy on loopback that stands for a network: it can slow, stall and cut. It holds one slice per direction and
 * reads no more until that has gone, so a slow wire pushes back on the sender as a real one does.
 */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  const lanes = { up: lane(), down: lane() };
  let stalled: PromiseWithResolvers<void> | undefined;
  let accepting = true;

  const server = createServer({ pauseOnConnect: false, noDelay: true }, (inner) => {
    if (!accepting) {
      inner.resetAndDestroy();
      return;
    }
    const outer = connect({ port: targetPort, host: '127.0.0.1', noDelay: true });
    for (const socket of [inner, outer]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => sockets.delete(socket));
    }
    void move(inner, outer, lanes.up);
    void move(outer, inner, lanes.down);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  async function move(from: Socket, to: Socket, wire: Lane): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
          const slice = chunk.subarray(at, at + SLICE_BYTES);
          await stalled?.promise;
          await pace(wire, slice.length);
          if (!to.write(slice)) await Promise.race([once(to, 'drain'), once(to, 'close')]);
        }
      }
      to.end();
    } catch {
      to.destroy();
    }
  }

  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return sockets.size / 2;
    },
    setRate: (bytesPerSecond) => {
      for (const wire of Object.values(lanes)) wire.bytesPerSecond = bytesPerSecond;
    },
    cut: () => {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    stall: (on) => {
      if (on) stalled ??= Promise.withResolvers<void>();
      else {
        stalled?.resolve();
        stalled = undefined;
      }
    },
    accept: (on) => {
      accepting = on;
    },
    async [Symbol.asyncDispose]() {
      stalled?.resolve();
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

function lane(): Lane {
  return { bytesPerSecond: Number.POSITIVE_INFINITY, nextAtMs: 0 };
}

/** Timers tick in whole milliseconds: the wire's schedule is kept in fractions, so that the rate holds over many slices. */
async function pace(wire: Lane, bytes: number): Promise<void> {
  if (wire.bytesPerSecond === Number.POSITIVE_INFINITY) return;
  const now = performance.now();
  wire.nextAtMs = Math.max(wire.nextAtMs, now - 2) + (bytes * 1000) / wire.bytesPerSecond;
  const wait = wire.nextAtMs - now;
  if (wait >= 1) await new Promise((resolve) => setTimeout(resolve, wait));
}
