import * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import {
  MAX_TERMINAL_CONTROL_BYTES,
  MAX_TERMINAL_INPUT_BYTES,
  READER_STALL_MS,
  TERMINAL_WINDOW_BYTES,
} from '../../shared/limits.ts';
import { type TerminalSize, terminalSize } from '../../shared/session-messages.ts';
import type { ExecutionFollower } from '../execution/execution-follower.ts';
import type { InputStream } from '../execution/input-stream.ts';
import type { Timers } from '../gateway-deps.ts';
import { toFailure } from '../http/problem-response.ts';
import type { TerminalHandlers, TerminalSocketPort } from './terminal-socket.ts';

/** Sizes of a window that is being dragged are told the program no more often than that. */
export const RESIZE_MS = 50;

const control = z.discriminatedUnion('type', [
  z.object({ type: z.literal('resize'), ...terminalSize.shape }),
  /** So many bytes of output have been dealt with, from the terminal's first on. */
  z.object({ type: z.literal('ack'), offset: z.int().min(0) }),
]);

export type TerminalConnectionOptions = {
  socket: TerminalSocketPort;
  timers: Timers;
  follower: ExecutionFollower;
  /** Undefined where the program is over. */
  input: InputStream | undefined;
  name: string;
  created: boolean;
  /** Bytes of output that the peer has. */
  offset: number;
  /** Says when its key is no longer good, also while output waits for its peer. Returns how to stop watching. */
  watch: (denied: (failure: Failure) => void) => () => void;
  /** Its last call. `why`: `exit`, `left` or a failure's code. */
  onClosed: (why: string, bytes: { input: number; output: number }) => void;
};

/**
 * One who looks at a terminal and types: output within TERMINAL_WINDOW_BYTES of what was acknowledged, since browsers hold
 * nobody back by reading slowly; input as fast as the program takes it.
 */
export class TerminalConnection implements TerminalHandlers {
  readonly #options: TerminalConnectionOptions;
  #sent: number;
  #acknowledged: number;
  #typed = 0;
  #isOver = false;
  #wake: () => void = () => {};
  #writing: Promise<void> = Promise.resolve();
  #waiting = 0;
  /** The newest that the program has not been told. */
  #size: TerminalSize | undefined;
  #resizing: unknown;
  readonly #unwatch: () => void;

  constructor(options: TerminalConnectionOptions) {
    this.#options = options;
    this.#sent = options.offset;
    this.#acknowledged = options.offset;
    const { name, created, follower, input } = options;
    this.#say({
      type: 'attached',
      terminal: name,
      created,
      execution_id: follower.executionId,
      output_offset: this.#sent,
      input_offset: input?.position ?? null,
    });
    input?.over.catch((failure: unknown) => {
      // The program's end comes with its output.
      const { code } = toFailure(failure);
      if (code !== 'not_found' && code !== 'conflict') this.#fail(toFailure(failure));
    });
    this.#unwatch = options.watch((failure) => this.#fail(failure));
    void this.#show().catch((cause: unknown) => this.#fail(toFailure(cause)));
  }

  message(data: Uint8Array | string): void {
    if (this.#isOver) return;
    if (typeof data === 'string') this.#control(data);
    else if (data.byteLength > MAX_TERMINAL_INPUT_BYTES)
      this.#fail(
        new Failure('too_large', `A message of input has ${MAX_TERMINAL_INPUT_BYTES} bytes at most.`),
      );
    else if (data.byteLength > 0) this.#type(data);
  }

  closed(): void {
    this.#end('left');
  }

  #control(text: string): void {
    const asked = text.length > MAX_TERMINAL_CONTROL_BYTES ? undefined : parse(text);
    if (!asked) this.#fail(broken('A text message is a resize or an ack, in JSON.'));
    else if (asked.type === 'resize') this.#resize({ rows: asked.rows, columns: asked.columns });
    else if (asked.offset < this.#acknowledged || asked.offset > this.#sent)
      this.#fail(broken('An ack names output that was not sent, or less than the one before.'));
    // One again of what was acknowledged gives no room, and no more time.
    else if (asked.offset > this.#acknowledged) {
      this.#acknowledged = asked.offset;
      this.#wake();
    }
  }

  /** Nothing holds a peer back that sends sizes, so the link gets the newest of each RESIZE_MS. */
  #resize(size: TerminalSize): void {
    this.#size = size;
    if (this.#resizing === undefined) this.#tellSize();
  }

  #tellSize(): void {
    this.#resizing = undefined;
    if (this.#size === undefined || this.#isOver) return;
    this.#options.input?.resize(this.#size);
    this.#size = undefined;
    this.#resizing = this.#options.timers.setTimeout(() => this.#tellSize(), RESIZE_MS);
  }

  #type(bytes: Uint8Array): void {
    const { input, socket } = this.#options;
    this.#typed += bytes.byteLength;
    if (!input) return;
    // Before there is room for more the peer is not heard.
    this.#waiting += 1;
    if (this.#waiting === 1) socket.hold();
    this.#writing = this.#writing
      .then(() => input.write(bytes))
      .then(() => {
        this.#waiting -= 1;
        if (this.#waiting === 0 && !this.#isOver) socket.go();
      });
  }

  async #show(): Promise<void> {
    const { follower } = this.#options;
    for (;;) {
      const taken = await follower.next();
      if (this.#isOver) return;
      if (taken.type === 'output') await this.#output(taken.bytes);
      else if (taken.type === 'gap') this.#gap(taken.from, taken.to);
      else if (taken.type === 'failed') {
        this.#fail(taken.failure);
        return;
      } else if (taken.type === 'end') {
        const { outcome, exit_code, signal } = taken.ending.result;
        this.#say({ type: 'exit', outcome, exit_code, signal });
        this.#options.socket.close(1000, 'exit');
        this.#end('exit');
        return;
      }
    }
  }

  async #output(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength; ) {
      const room = await this.#room();
      if (this.#isOver) return;
      const piece = bytes.subarray(at, at + room);
      at += piece.byteLength;
      this.#sent += piece.byteLength;
      this.#options.socket.send(piece);
    }
  }

  #gap(from: number, to: number): void {
    this.#say({ type: 'gap', from, to });
    // What is lost needs no acknowledgement.
    this.#acknowledged += to - this.#sent;
    this.#sent = to;
  }

  /** Waits until something was acknowledged; whoever does not is let go. */
  async #room(): Promise<number> {
    const { timers } = this.#options;
    for (;;) {
      const room = this.#acknowledged + TERMINAL_WINDOW_BYTES - this.#sent;
      if (room > 0 || this.#isOver) return room;
      const stalled = () =>
        this.#fail(new Failure('reader_stalled', 'Output was not acknowledged in time.', { started: 'yes' }));
      const timer = timers.setTimeout(stalled, READER_STALL_MS);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      timers.clearTimeout(timer);
    }
  }

  #say(message: object): void {
    this.#options.socket.send(JSON.stringify(message));
  }

  /** The terminal goes on; whoever may come back is told why this ended. */
  #fail(failure: Failure): void {
    if (this.#isOver) return;
    const { code, detail, status } = failure;
    this.#say({ type: 'error', code, message: detail });
    this.#options.socket.close(4_000 + status, code);
    this.#end(code);
  }

  #end(why: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#unwatch();
    if (this.#resizing !== undefined) this.#options.timers.clearTimeout(this.#resizing);
    const { follower, input, offset, onClosed } = this.#options;
    follower.abandon();
    input?.leave();
    this.#wake();
    onClosed(why, { input: this.#typed, output: this.#sent - offset });
  }
}

function parse(text: string): z.output<typeof control> | undefined {
  try {
    return control.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

function broken(detail: string): Failure {
  return new Failure('invalid_request', detail);
}
