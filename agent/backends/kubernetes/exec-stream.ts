import { Duplex } from 'node:stream';
import { type RawData, WebSocket } from 'ws';
import { Failure } from '../../../shared/errors.ts';
import { sendInput } from './exec-input.ts';
import { CHANNEL, V5 } from './exec-protocol.ts';
import { type ExecStatus, parseExecStatus } from './exec-status.ts';

/** Proxies cut what is silent for 60 s. */
export const PING_MS = 20_000;
/** A peer that answers no ping for so long is gone, whatever TCP says. */
export const PONG_TIMEOUT_MS = 50_000;
const READ_AHEAD_BYTES = 262_144;
const STDERR_KEPT_BYTES = 4_096;

export type ExecStreamOptions = {
  onStderr?: (chunk: Buffer) => void;
  /** The command has ended. What it wrote may still be unread, and `end` with it. */
  onStatus?: (status: ExecStatus) => void;
  pingMs?: number;
  pongTimeoutMs?: number;
};

/**
 * A command in a container: what is written goes to its stdin, what is read is its stdout. Neither side is buffered past
 * its high-water mark: a reader that stops pauses the socket, and a socket that is full holds the writer back. Its stderr
 * is drained always, and the end of it kept for the log.
 * What went out lies in the sockets of the hops until the command reads it: 32 MB of three hops were seen on a 1.33
 * cluster, in the kernels alone. What a program is sent at once is bound by the runner's credit, not by them.
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

/** A Duplex over the channels of one socket. */
export function createExecStream(socket: WebSocket, options: ExecStreamOptions): ExecStream {
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
        // A view of a message would keep all of it.
        stderr = Buffer.concat([stderr, body.subarray(-STDERR_KEPT_BYTES)]).subarray(-STDERR_KEPT_BYTES);
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
