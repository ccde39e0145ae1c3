import type { IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import { type RawData, WebSocket } from 'ws';
import { Failure } from '../../../shared/errors.ts';
import { type ExecStatus, parseExecStatus } from './exec-status.ts';
import { parseStatus } from './kube-client.ts';
import type { KubeAccess } from './kube-config.ts';
import { statusFailure } from './kube-failure.ts';
import type { Right } from './rights.ts';

const V5 = 'v5.channel.k8s.io';
const V4 = 'v4.channel.k8s.io';
/** What an exec over WebSocket asks for: `create` too since 1.35. */
export const EXEC_VERBS: readonly string[] = ['get', 'create'];
/** What is offered, the best first. */
export const EXEC_PROTOCOLS: readonly string[] = [V5, V4];
const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, status: 3, close: 255 } as const;

/** Proxies cut what is silent for 60 s. */
export const PING_MS = 20_000;
/** A peer that answers no ping for so long is gone, whatever TCP says. */
export const PONG_TIMEOUT_MS = 50_000;
const HANDSHAKE_TIMEOUT_MS = 15_000;
/** One WebSocket message: servers read a whole one before they hand it on. */
const MAX_SEND_BYTES = 65_536;
const MAX_MESSAGE_BYTES = 4_194_304;
const READ_AHEAD_BYTES = 262_144;
const STDERR_KEPT_BYTES = 4_096;

export type ExecOptions = {
  access: KubeAccess;
  namespace: string;
  pod: string;
  container: string;
  command: readonly string[];
  /** Ends the wait for the stream; a stream that is open is ended by destroying it. */
  signal: AbortSignal;
  onStderr?: (chunk: Buffer) => void;
  /** The command has ended. What it wrote may still be unread, and `end` with it. */
  onStatus?: (status: ExecStatus) => void;
  /** `EXEC_PROTOCOLS` unless given: a server that has both can be held to the older. */
  protocols?: readonly string[];
  pingMs?: number;
  pongTimeoutMs?: number;
};

/**
 * A command in a container: what is written goes to its stdin, what is read is its stdout. Neither side is buffered past
 * its high-water mark: a reader that stops pauses the socket, and a socket that is full holds the writer back. Its stderr
 * is drained always, and the end of it kept for the log.
 *
 * It ends after the server has said how the command ended, and with an error (`sandbox_lost`) when the connection ended
 * first. With v4, which has no half-close, `end()` leaves the command's stdin open.
 */
export type ExecStream = Duplex & {
  readonly protocol: 'v5' | 'v4';
  /** Null until the command has ended. */
  readonly status: ExecStatus | null;
  /** The last 4 KB of the command's stderr. */
  stderrTail(): string;
};

/** Opens the exec. Rejects with a Failure when the server refuses it or cannot be reached. */
export async function openExec(options: ExecOptions): Promise<ExecStream> {
  const { access, signal, protocols = EXEC_PROTOCOLS } = options;
  const { headers, tls, proxy } = await access.connection();
  signal.throwIfAborted();
  const socket = new WebSocket(execUrl(options), [...protocols], {
    ...tls,
    headers,
    ...(proxy ? { agent: proxy } : {}),
    perMessageDeflate: false,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    maxPayload: MAX_MESSAGE_BYTES,
    followRedirects: false,
  });
  // From the first byte on: what comes with the upgrade is not lost, and an error always has a listener.
  const stream = createSocketStream(socket, options);
  const abort = () => socket.terminate();
  const ignore = () => {};
  stream.on('error', ignore);
  signal.addEventListener('abort', abort, { once: true });
  try {
    await opened(socket, options);
    stream.off('error', ignore);
  } catch (cause) {
    stream.destroy();
    throw signal.aborted ? signal.reason : cause;
  } finally {
    signal.removeEventListener('abort', abort);
  }
  return stream;
}

function execUrl({ access, namespace, pod, container, command }: ExecOptions): URL {
  const url = new URL(
    `${access.server.replace(/^http/, 'ws')}/api/v1/namespaces/${namespace}/pods/${encodeURIComponent(pod)}/exec`,
  );
  for (const part of command) url.searchParams.append('command', part);
  for (const name of ['stdin', 'stdout', 'stderr']) url.searchParams.set(name, 'true');
  url.searchParams.set('container', container);
  return url;
}

function opened(socket: WebSocket, { access, namespace, pod }: ExecOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('open', () => resolve());
    socket.once('unexpected-response', (request, response: IncomingMessage) => {
      void refusalOf(response, pod, { verb: 'get', group: '', resource: 'pods/exec', namespace })
        .then(reject, reject)
        .finally(() => request.destroy());
    });
    socket.once('error', (cause) => {
      const detail = `No exec can be opened through the API server of context '${access.context}'.`;
      reject(new Failure('backend_unavailable', detail, { cause }));
    });
    socket.once('close', () =>
      reject(new Failure('backend_unavailable', 'The exec was closed before it was open.')),
    );
  });
}

async function refusalOf(response: IncomingMessage, pod: string, right: Right): Promise<Failure> {
  let text = '';
  for await (const chunk of response as AsyncIterable<Buffer>) {
    text += chunk.toString('utf8');
    if (text.length > STDERR_KEPT_BYTES) break;
  }
  const status = response.statusCode ?? 0;
  const refused = statusFailure(parseStatus(text), {
    status,
    retryAfter: response.headers['retry-after'],
    what: `an exec into ${pod}`,
    right,
  });
  // Credentials and rights are the agent's trouble; anything else is this pod's.
  if ([401, 403, 429].includes(status)) return refused;
  const detail = status === 404 ? 'The pod is gone.' : 'The pod takes no exec now.';
  return new Failure('sandbox_lost', detail, { cause: refused });
}

/** A Duplex over the channels of one socket. */
function createSocketStream(socket: WebSocket, options: ExecOptions): ExecStream {
  const { pingMs = PING_MS, pongTimeoutMs = PONG_TIMEOUT_MS } = options;
  let status: ExecStatus | null = null;
  let stderr = Buffer.alloc(0);
  let heardAt = performance.now();
  let ended = false;

  const stream = new Duplex({
    readableHighWaterMark: READ_AHEAD_BYTES,
    writableHighWaterMark: READ_AHEAD_BYTES,
    read() {
      if (!socket.isPaused) return;
      heardAt = performance.now();
      socket.resume();
    },
    write(chunk: Buffer, _encoding, done) {
      // A command that has ended takes no more input: what is still written goes nowhere.
      if (status) done();
      else sendInput(socket, [chunk], done);
    },
    writev(chunks, done) {
      const buffers = chunks.map(({ chunk }) => chunk as Buffer);
      if (status) done();
      else sendInput(socket, buffers, done);
    },
    final(done) {
      if (socket.protocol !== V5 || socket.readyState !== WebSocket.OPEN) done();
      else socket.send(Buffer.of(CHANNEL.close, CHANNEL.stdin), (cause) => done(cause ?? null));
    },
    destroy(cause, done) {
      clearInterval(timer);
      socket.terminate();
      done(cause);
    },
  });

  function finish(): void {
    if (ended) return;
    ended = true;
    stream.push(null);
  }

  function onMessage(data: RawData, isBinary: boolean): void {
    heardAt = performance.now();
    const message = data as Buffer;
    if (!isBinary || message.byteLength === 0) {
      fail('sent what is no exec frame');
      return;
    }
    const body = message.subarray(1);
    switch (message[0]) {
      case CHANNEL.stdout:
        // An empty frame says that the channel is there; pushing nothing would look like an end to some readers.
        if (body.byteLength > 0 && !ended && !stream.push(body)) socket.pause();
        return;
      case CHANNEL.stderr:
        stderr = Buffer.concat([stderr, body]).subarray(-STDERR_KEPT_BYTES);
        options.onStderr?.(body);
        return;
      case CHANNEL.status:
        onStatus(body.toString('utf8'));
        return;
      default:
        // v5 closes single channels; the status comes all the same.
        return;
    }
  }

  function onStatus(text: string): void {
    try {
      status = parseExecStatus(text);
    } catch (cause) {
      stream.destroy(cause as Failure);
      return;
    }
    finish();
    socket.close();
    options.onStatus?.(status);
  }

  function fail(how: string, cause?: unknown): void {
    if (status || stream.destroyed) return;
    stream.destroy(new Failure('sandbox_lost', `The exec stream ${how}.`, { cause, started: 'unknown' }));
  }

  function keepAlive(): void {
    if (socket.readyState !== WebSocket.OPEN) return;
    // A paused socket hears no pong: silence is ours then.
    if (!socket.isPaused && performance.now() - heardAt > pongTimeoutMs) fail('has gone silent');
    else socket.ping();
  }

  const timer = setInterval(keepAlive, pingMs);
  timer.unref();
  stream.once('end', () => stream.destroy());
  socket.binaryType = 'nodebuffer';
  socket.on('message', onMessage);
  socket.on('pong', () => {
    heardAt = performance.now();
  });
  socket.on('error', (cause) => fail('failed', cause));
  socket.on('close', (code) => {
    clearInterval(timer);
    if (status) finish();
    else fail(`ended without a status (${code})`);
  });
  return Object.defineProperties(stream as ExecStream, {
    protocol: { get: () => (socket.protocol === V5 ? 'v5' : 'v4') },
    status: { get: () => status },
    stderrTail: { value: () => stderr.toString('utf8') },
  });
}

/** Sends what was written in one turn as few messages. `done` is called when the last has left for the kernel. */
function sendInput(socket: WebSocket, chunks: readonly Buffer[], done: (error?: Error | null) => void): void {
  if (socket.readyState !== WebSocket.OPEN) {
    done(new Failure('sandbox_lost', 'The exec stream is closed.', { started: 'unknown' }));
    return;
  }
  const messages: Buffer[] = [];
  let parts: Uint8Array[] = [];
  let size = 0;
  const flush = () => {
    if (size === 0) return;
    messages.push(Buffer.concat([Uint8Array.of(CHANNEL.stdin), ...parts]));
    parts = [];
    size = 0;
  };
  for (const chunk of chunks) {
    for (let from = 0; from < chunk.byteLength; ) {
      const part = chunk.subarray(from, from + MAX_SEND_BYTES - size);
      parts.push(part);
      size += part.byteLength;
      from += part.byteLength;
      if (size === MAX_SEND_BYTES) flush();
    }
  }
  flush();
  const last = messages.pop() ?? Buffer.of(CHANNEL.stdin);
  for (const message of messages) socket.send(message);
  socket.send(last, (cause) => done(cause ?? null));
}
