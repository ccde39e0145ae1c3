import { Failure } from '../../shared/errors.ts';
import { MAX_KNOWN_WRITERS, MAX_WRITERS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import type { RunnerSessionWork, TerminalSize } from '../../shared/session-messages.ts';
import type { RunnerExecution } from '../runner/client.ts';
import type { ExecutionInput } from './port.ts';

/** Where one who feeds an execution is told what became of it. */
export type WriterPort = {
  /** Answers INPUT. */
  taking(taken: number): void;
  /** The program has taken bytes: as many more may be sent. */
  consumed(bytes: number): void;
  /** Ends the stream. */
  inputOver(body: FromAgent['INPUT']): void;
};

/** `credited`: the position up to which its writer may send as much again. */
type Piece = {
  readonly from: number;
  credited: number;
  readonly bytes: Uint8Array;
  readonly port: WriterPort;
};
type Sink = Pick<RunnerExecution, 'write' | 'endInput' | 'resize'>;

/**
 * What is fed to a program while it runs (shared/protocol.md 14): pieces in the order in which they came, whoever sent
 * them, kept until the program has taken them, since the stream to its runner may be replaced. Positions count from the
 * end of the input that START announced. It holds MAX_WRITERS + 1 windows at most.
 */
export class LiveInput {
  readonly #announced: number;
  readonly #writers = new Map<string, WriterPort>();
  /** What each writer has sent in all, also those that left: the oldest are forgotten first. */
  readonly #counts = new Map<string, number>();
  #pieces: Piece[] = [];
  #sink: Sink | undefined;
  /** All that came; what the runner was sent of it; what the program took. */
  #length = 0;
  #sent = 0;
  #taken = 0;
  #limit: number;
  /** Of the terminal, as it was last told. */
  #size: TerminalSize | undefined;
  readonly #onUse: () => void;
  #isClosed = false;
  #isOver = false;

  /** `announced`: bytes of input in START. `onUse`: somebody wrote. */
  constructor(announced: number, onUse: () => void = () => {}) {
    this.#onUse = onUse;
    this.#announced = announced;
    this.#limit = STREAM_WINDOW_BYTES - announced;
  }

  /** Takes a writer in, for the one of the same name where there is one. Throws the Failure that it is to be refused with. */
  open(writer: string, port: WriterPort): ExecutionInput {
    if (this.#isOver) throw new Failure('not_found', 'The program has ended.');
    if (this.#isClosed) throw new Failure('conflict', 'The standard input of the program is closed.');
    const before = this.#writers.get(writer);
    const others = this.#writers.size - (before ? 1 : 0);
    if (others >= MAX_WRITERS || this.#length - this.#taken > STREAM_WINDOW_BYTES)
      throw new Failure('rate_limited', 'Enough is being written to this program already.', {
        retryAfterMs: 1_000,
      });
    if (before) this.#end(writer, before, 'replaced');
    this.#writers.set(writer, port);
    port.taking(this.#count(writer, 0));
    const isOpen = () => this.#writers.get(writer) === port;
    return {
      data: (bytes) => {
        if (isOpen()) this.#push(bytes, writer, port);
        return true;
      },
      end: ({ keep = false } = {}) => {
        if (!isOpen()) return true;
        if (!keep) this.#close();
        this.#end(writer, port, keep ? 'kept' : 'closed');
        return true;
      },
      window() {},
      cancel() {},
      resize: (size) => {
        if (isOpen()) this.#resize(size);
      },
      leave: () => {
        if (isOpen()) this.#writers.delete(writer);
      },
    };
  }

  /** User code runs: what waits may go. */
  begin(sink: Sink): void {
    this.#sink = sink;
    if (this.#size) this.#resize(this.#size);
    this.#pump();
  }

  /** The runner's WINDOW, for the whole channel. */
  window(limit: number): void {
    this.#limit = Math.max(this.#limit, limit - this.#announced);
    this.#taken = Math.max(this.#taken, this.#limit - STREAM_WINDOW_BYTES);
    this.#credit();
    this.#pump();
  }

  /** A new stream to the runner, which has so many bytes of the channel. */
  resume(received: number): void {
    this.#sent = Math.max(this.#taken, received - this.#announced);
    if (this.#size) this.#resize(this.#size);
    if (this.#sent < this.#length) this.#pump();
    else if (this.#isClosed) this.#sink?.endInput();
  }

  /** The program has ended. */
  over(): void {
    this.#isOver = true;
    this.#pieces = [];
    for (const [writer, port] of [...this.#writers]) this.#end(writer, port, 'ended');
  }

  #resize(size: TerminalSize): void {
    this.#size = size;
    this.#onUse();
    this.#sink?.resize(size.rows, size.columns);
  }

  /**
   * Part by part: runner and link each hold back the word on almost half a window, and a piece more would make it a
   * whole one, after which nobody says anything.
   */
  #credit(): void {
    for (let piece = this.#pieces[0]; piece && piece.credited < this.#taken; piece = this.#pieces[0]) {
      const upTo = Math.min(end(piece), this.#taken);
      // Whoever left takes no notice.
      piece.port.consumed(upTo - piece.credited);
      piece.credited = upTo;
      if (upTo < end(piece)) return;
      this.#pieces.shift();
    }
  }

  #end(writer: string, port: WriterPort, why: FromAgent['INPUT']['why']): void {
    this.#writers.delete(writer);
    port.inputOver({ taken: this.#counts.get(writer) ?? 0, why });
  }

  /** Counts what a writer sent; says how much that is by now. */
  #count(writer: string, bytes: number): number {
    const count = (this.#counts.get(writer) ?? 0) + bytes;
    this.#counts.delete(writer);
    this.#counts.set(writer, count);
    if (this.#counts.size > MAX_KNOWN_WRITERS)
      for (const name of this.#counts.keys())
        if (!this.#writers.has(name)) {
          this.#counts.delete(name);
          break;
        }
    return count;
  }

  #push(bytes: Uint8Array, writer: string, port: WriterPort): void {
    // Of a stream that was closed by somebody else nothing more is wanted.
    if (this.#isClosed || this.#isOver) {
      port.consumed(bytes.byteLength);
      return;
    }
    this.#pieces.push({ from: this.#length, credited: this.#length, bytes, port });
    this.#count(writer, bytes.byteLength);
    this.#onUse();
    this.#length += bytes.byteLength;
    this.#pump();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#sent === this.#length) this.#sink?.endInput();
  }

  #pump(): void {
    if (!this.#sink || this.#sent === this.#length) return;
    for (const piece of this.#pieces) {
      const room = this.#limit - this.#sent;
      if (room <= 0) return;
      if (end(piece) <= this.#sent) continue;
      const bytes = piece.bytes.subarray(this.#sent - piece.from).subarray(0, room);
      this.#sink.write(bytes);
      this.#sent += bytes.byteLength;
    }
    if (this.#isClosed && this.#sent === this.#length) this.#sink.endInput();
  }
}

function end({ from, bytes }: Piece): number {
  return from + bytes.byteLength;
}

/** Whether a program is fed while it runs. */
export function feedsOn(work: RunnerSessionWork | undefined): boolean {
  return work?.do === 'terminal' || (work?.do === 'bash' && work.input === true);
}
