import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** `up` is from whoever dialled to the target. */
export type Direction = 'up' | 'down';

/** What the proxy does to one direction of all connections. */
type Lane = {
  bytesPerSecond: number;
  nextAtMs: number;
  stalled: PromiseWithResolvers<void> | undefined;
  /** Slices that still lose a bit. */
  corrupt: number;
  /** Called once half of a slice has gone and the other waits. */
  onHalf: (() => void) | undefined;
};

/** `halfOpen`: one end is gone and the other does not know. */
type Connection = { readonly inner: Socket; readonly outer: Socket; halfOpen: boolean };

export type TcpProxy = AsyncDisposable & {
  readonly port: number;
  /** Bytes per second in each direction, over all connections together; Infinity lifts the bound. */
  setRate(bytesPerSecond: number): void;
  /** Resets every connection, or the oldest so many. New ones are taken. */
  cut(connections?: number): void;
  /** Moves no byte, and no end of a connection, until told otherwise: in one direction or in both. */
  stall(on: boolean, direction?: Direction): void;
  /** Moves half of the next slice that is larger than a control frame, then stalls that direction; resolves when it has. */
  stallInside(direction: Direction): Promise<void>;
  /** Resets one end of every connection: the other goes on to believe in it, and what it says goes nowhere. */
  halfOpen(gone: 'dialler' | 'target'): void;
  /** Flips a bit of the next so many slices in each direction. */
  corrupt(slices: number): void;
  /** Takes new connections, or resets them at once. */
  accept(on: boolean): void;
  readonly connections: number;
};

/** Bytes that the slowed wire moves at a time: small, so that latency through it is that of a wire and not of a queue. */
const SLICE_BYTES = 8_192;
/** Half of so much lies inside a frame of bulk. */
const BULK_BYTES = 4_096;

/**
 * A TCP proxy on loopback, to a port or to a socket of this machine, that stands for a network: it can slow, stall, cut, half-open and corrupt. It holds one slice
 * per direction and reads no more until that has gone, so a slow wire pushes back on the sender as a real one does.
 */
export async function startTcpProxy(target: number | { socketPath: string }): Promise<TcpProxy> {
  const connections = new Set<Connection>();
  const lanes: Record<Direction, Lane> = { up: lane(), down: lane() };
  let accepting = true;

  const server = createServer({ pauseOnConnect: false, noDelay: true }, (inner) => {
    if (!accepting) {
      inner.resetAndDestroy();
      return;
    }
    const outer =
      typeof target === 'number'
        ? connect({ port: target, host: '127.0.0.1', noDelay: true })
        : connect({ path: target.socketPath });
    const connection = { inner, outer, halfOpen: false };
    connections.add(connection);
    for (const socket of [inner, outer]) {
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        if (inner.destroyed && outer.destroyed) connections.delete(connection);
      });
    }
    void move(connection, inner, outer, lanes.up);
    void move(connection, outer, inner, lanes.down);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  async function move(connection: Connection, from: Socket, to: Socket, wire: Lane): Promise<void> {
    let whole = false;
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
          const slice = chunk.subarray(at, at + SLICE_BYTES);
          await wire.stalled?.promise;
          await pace(wire, slice.length);
          if (connection.halfOpen) continue;
          spoil(wire, slice);
          const rest = await halve(wire, slice, to);
          if (connection.halfOpen) continue;
          if (!to.write(rest)) await Promise.race([once(to, 'drain'), once(to, 'close')]);
        }
      }
      whole = true;
    } catch {
      // Reset: passed on below.
    }
    await wire.stalled?.promise;
    if (connection.halfOpen) return;
    if (whole) to.end();
    else to.destroy();
  }

  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return connections.size;
    },
    setRate: (bytesPerSecond) => {
      for (const wire of Object.values(lanes)) wire.bytesPerSecond = bytesPerSecond;
    },
    cut: (count = connections.size) => {
      for (const { inner, outer } of [...connections].slice(0, count)) {
        reset(inner);
        reset(outer);
      }
    },
    stall: (on, direction) => {
      for (const each of direction ? [direction] : (['up', 'down'] as const)) {
        const wire = lanes[each];
        if (on) wire.stalled ??= Promise.withResolvers<void>();
        else {
          wire.stalled?.resolve();
          wire.stalled = undefined;
        }
      }
    },
    stallInside: (direction) =>
      new Promise((resolve) => {
        lanes[direction].onHalf = resolve;
      }),
    halfOpen: (gone) => {
      for (const connection of connections) {
        connection.halfOpen = true;
        reset(connection[gone === 'dialler' ? 'inner' : 'outer']);
      }
    },
    corrupt: (slices) => {
      for (const wire of Object.values(lanes)) wire.corrupt = slices;
    },
    accept: (on) => {
      accepting = on;
    },
    async [Symbol.asyncDispose]() {
      for (const wire of Object.values(lanes)) wire.stalled?.resolve();
      for (const { inner, outer } of connections) {
        inner.destroy();
        outer.destroy();
      }
      server.close();
      await once(server, 'close');
    },
  };
}

/** Only TCP has resets. */
function reset(socket: Socket): void {
  if (socket.remoteFamily === undefined) socket.destroy();
  else socket.resetAndDestroy();
}

function lane(): Lane {
  return {
    bytesPerSecond: Number.POSITIVE_INFINITY,
    nextAtMs: 0,
    stalled: undefined,
    corrupt: 0,
    onHalf: undefined,
  };
}

/** What is left of a slice to send: the half behind which the wire is to stall waits here until it goes on. */
async function halve(wire: Lane, slice: Buffer, to: Socket): Promise<Buffer> {
  if (!wire.onHalf || slice.length < BULK_BYTES) return slice;
  const half = slice.length >> 1;
  to.write(slice.subarray(0, half));
  wire.stalled ??= Promise.withResolvers<void>();
  wire.onHalf();
  wire.onHalf = undefined;
  await wire.stalled.promise;
  return slice.subarray(half);
}

function spoil(wire: Lane, slice: Buffer): void {
  if (wire.corrupt === 0) return;
  wire.corrupt -= 1;
  const at = slice.length >> 1;
  slice[at] = (slice[at] as number) ^ 0x10;
}

/** Timers tick in whole milliseconds: the wire's schedule is kept in fractions, so that the rate holds over many slices. */
async function pace(wire: Lane, bytes: number): Promise<void> {
  if (wire.bytesPerSecond === Number.POSITIVE_INFINITY) return;
  const now = performance.now();
  wire.nextAtMs = Math.max(wire.nextAtMs, now - 2) + (bytes * 1000) / wire.bytesPerSecond;
  const wait = wire.nextAtMs - now;
  if (wait >= 1) await new Promise((resolve) => setTimeout(resolve, wait));
}
