import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { createFrameReader } from '../../agent/runner/frame-stream.ts';
import { TYPE } from '../../shared/frame-type.ts';
import { ENGINE_HOST } from './docker-engine.ts';

/** What goes through the door: a request to the engine, without its version and query; or a frame to a runner, by its type's name. */
export type Passing = { readonly method: string; readonly path: string; readonly query: URLSearchParams };

/** `asked`: the engine knows nothing of it yet. `done`: it has been carried out, and whoever asked does not know. */
export type Moment = 'asked' | 'done';

export type Held = {
  readonly passing: Passing;
  /** It goes on, whether or not whoever asked still lives. */
  release(): void;
};

/** An address of the engine's of a test's own, before which one request or frame can be held at a known moment. */
export type EngineDoor = AsyncDisposable & {
  readonly host: string;
  /** Whatever has come to the engine. */
  readonly passed: readonly Passing[];
  /** Resolves when the next one that matches is held. */
  hold(moment: Moment, matches: (passing: Passing) => boolean): Promise<Held>;
};

type Wanted = {
  moment: Moment;
  matches: (passing: Passing) => boolean;
  onHeld: (held: Held) => void;
};

/** Connections that nobody ends otherwise: an engine's streams last as long as their containers. */
type Ends = { add(socket: Socket): void; [Symbol.dispose](): void };

export async function openEngineDoor(engineHost = ENGINE_HOST ?? ''): Promise<EngineDoor> {
  const engine = targetOf(engineHost);
  const dir = await mkdtemp('/run/podgate-door-');
  const wanted = new Set<Wanted>();
  const passed: Passing[] = [];
  using opened = new DisposableStack();
  const ends = opened.use(createEnds());

  /** Resolves at once where nobody waits for it. */
  function reach(moment: Moment, passing: Passing): Promise<void> {
    const found = [...wanted].find((each) => each.moment === moment && each.matches(passing));
    if (!found) return Promise.resolve();
    wanted.delete(found);
    const { promise, resolve } = Promise.withResolvers<void>();
    found.onHeld({ passing, release: resolve });
    return promise;
  }

  async function pass(passing: Passing, carryOut: () => void | Promise<void>): Promise<void> {
    await reach('asked', passing);
    passed.push(passing);
    await carryOut();
    await reach('done', passing);
  }

  async function relay(from: IncomingMessage, to: ServerResponse): Promise<void> {
    const body = await buffer(from);
    let answer: IncomingMessage | undefined;
    await pass(passingOf(from), async () => {
      const { method, url: path, headers } = from;
      const call = request({ ...engine, method, path, headers }).end(body);
      [answer] = (await once(call, 'response')) as [IncomingMessage];
    });
    if (!answer) return;
    to.writeHead(answer.statusCode ?? 500, answer.rawHeaders);
    to.on('close', () => answer?.destroy());
    answer.pipe(to);
  }

  async function takeOver(from: IncomingMessage, inner: Socket, head: Buffer): Promise<void> {
    ends.add(inner);
    const outer = connect('socketPath' in engine ? { path: engine.socketPath } : engine);
    ends.add(outer);
    await pass(passingOf(from), () => {
      outer.write(`${from.method} ${from.url} HTTP/1.1\r\n${linesOf(from.rawHeaders)}\r\n\r\n`);
      outer.write(head);
    });
    inner.on('end', () => outer.end());
    inner.on('close', () => outer.destroy());
    outer.on('close', () => inner.destroy());
    outer.pipe(inner);
    const body = Number(from.headers['content-length'] ?? 0) - head.byteLength;
    await follow(inner, outer, body);
  }

  /** What a runner is told, frame by frame, behind the rest of the request's body. */
  async function follow(inner: Socket, outer: Socket, bodyBytes: number): Promise<void> {
    let rest = bodyBytes;
    let told: Passing[] = [];
    const reader = createFrameReader(1, ({ type }) => {
      told.push({ method: 'FRAME', path: NAMES.get(type) ?? '', query: new URLSearchParams() });
      return undefined;
    });
    for await (const chunk of inner as AsyncIterable<Buffer>) {
      reader.push(chunk.subarray(Math.max(rest, 0)));
      rest -= chunk.byteLength;
      const frames = told;
      told = [];
      for (const frame of frames) await reach('asked', frame);
      outer.write(chunk);
      passed.push(...frames);
      for (const frame of frames) await reach('done', frame);
    }
  }

  const lost = (socket: { destroy(): void }) => () => void socket.destroy();
  const server = createServer((from, to) => void relay(from, to).catch(lost(to)));
  server.on('upgrade', (from: IncomingMessage, inner: Socket, head: Buffer) => {
    void takeOver(from, inner, head).catch(lost(inner));
  });
  server.listen(join(dir, 'docker.sock'));
  await once(server, 'listening');
  const held = opened.move();
  return {
    host: `unix://${dir}/docker.sock`,
    passed,
    hold: (moment, matches) => {
      const { promise, resolve } = Promise.withResolvers<Held>();
      wanted.add({ moment, matches, onHeld: resolve });
      return promise;
    },
    async [Symbol.asyncDispose]() {
      held.dispose();
      server.close();
      server.closeAllConnections();
      await rm(dir, { recursive: true });
    },
  };
}

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(TYPE).map(([name, type]) => [type, name]));

function targetOf(engineHost: string): { socketPath: string } | { host: string; port: number } {
  if (engineHost.startsWith('unix://')) return { socketPath: engineHost.slice('unix://'.length) };
  const { hostname, port } = new URL(engineHost);
  return { host: hostname, port: Number(port) };
}

function passingOf({ method = '', url = '' }: IncomingMessage): Passing {
  const { pathname, searchParams } = new URL(url, 'http://engine');
  return { method, path: pathname.replace(/^\/v[\d.]+(?=\/)/, ''), query: searchParams };
}

function linesOf(rawHeaders: readonly string[]): string {
  const lines: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) lines.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
  return lines.join('\r\n');
}

function createEnds(): Ends {
  const sockets = new Set<Socket>();
  return {
    add(socket) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => sockets.delete(socket));
    },
    [Symbol.dispose]() {
      for (const socket of sockets) socket.destroy();
    },
  };
}
