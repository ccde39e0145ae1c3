import { Failure } from '../../shared/errors.ts';
import { HeldBytes } from '../../shared/held-bytes.ts';
import { MAX_KNOWN_WRITERS, MAX_WRITERS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import type { RunnerSessionWork, TerminalSize } from '../../shared/session-messages.ts';
import type { RunnerExecution } from '../runner/runner-execution.ts';
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

/** `owed`: bytes that came and for which as many more may not be sent yet. */
type Writer = { readonly port: WriterPort; owed: number };
type Sink = Pick<RunnerExecution, 'write' | 'endInput' | 'resize'>;

/**
 * What is fed to a program while it runs (shared/protocol.md 14): bytes in the order in which they came, whoever sent
 * them, kept until the program has taken them, since the stream to its runner may be replaced. Positions count from the
 * end of the input that START announced. It holds MAX_WRITERS + 1 windows at most.
 */
export class LiveInput {
  readonly #announced: number;
  /** Who had credit last is the last. */
  readonly #writers = new Map<string, Writer>();
  /** What each writer has sent in all, also those that left: the oldest are forgotten first. */
  readonly #counts = new Map<string, number>();
  readonly #held = new HeldBytes();
  #sink: Sink | undefined;
  /** Of what came: what the runner was sent; what the program took; what is owed to those that left. */
  #sent = 0;
  #taken = 0;
  #owedToNobody = 0;
  #limit: number;
  /** Of the terminal, as it was last told. */
  #size: TerminalSize | undefined;
  readonly #onUse: () => void;
  /** Who said that stdin ends behind what came. */
  #closedBy: string | undefined;
  #isOver = false;

  /** `announced`: bytes of input in START. `onUse`: somebody wrote. */
  constructor(announced: number, onUse: () => void = () => {}) {
    this.#onUse = onUse;
    this.#announced = announced;
    this.#limit = STREAM_WINDOW_BYTES - announced;
  }

  /** Takes a writer in, for the one of the same name where there is one. Throws the Failure that it is to be refused with. */
  open(name: string, port: WriterPort): ExecutionInput {
    if (this.#isOver) throw new Failure('not_found', 'The program has ended.');
    // Who closed it comes again for an answer that was lost with its link.
    if (this.#isClosed && this.#closedBy !== name)
      throw new Failure('conflict', 'The standard input of the program is closed.');
    const before = this.#writers.get(name);
    const others = this.#writers.size - (before ? 1 : 0);
    if (others >= MAX_WRITERS || this.#held.end - this.#taken > STREAM_WINDOW_BYTES)
      throw new Failure('rate_limited', 'Enough is being written to this program already.', {
        retryAfterMs: 1_000,
      });
    if (before) this.#end(name, before, 'replaced');
    const writer = { port, owed: 0 };
    this.#writers.set(name, writer);
    port.taking(this.#count(name, 0));
    const isOpen = () => this.#writers.get(name) === writer;
    return {
      data: (bytes) => {
        if (isOpen()) this.#push(bytes, name, writer);
        return true;
      },
      end: ({ keep = false } = {}) => {
        if (!isOpen()) return true;
        if (!keep) this.#close(name);
        this.#end(name, writer, this.#isClosed ? 'closed' : 'kept');
        return true;
      },
      window() {},
      cancel() {},
      resize: (size) => {
        if (isOpen()) this.#resize(size);
      },
      leave: () => {
        if (isOpen()) this.#leave(name, writer);
      },
    };
  }

  /** User code runs: what waits may go. */
  begin(sink: Sink): void {
    this.#sink = sink;
    this.#goOn();
  }

  /** The runner's WINDOW, for the whole channel. */
  window(limit: number): void {
    const before = this.#taken;
    this.#limit = Math.max(this.#limit, limit - this.#announced);
    this.#taken = Math.max(before, this.#limit - STREAM_WINDOW_BYTES);
    this.#held.forget(this.#taken);
    this.#credit(this.#taken - before);
    this.#pump();
  }

  /** A new stream to the runner, which has so many bytes of the channel. */
  resume(received: number): void {
    this.#sent = Math.max(this.#taken, received - this.#announced);
    this.#goOn();
  }

  /** The program has ended. */
  over(): void {
    this.#isOver = true;
    this.#held.clear();
    for (const [name, writer] of [...this.#writers]) this.#end(name, writer, 'ended');
  }

  #goOn(): void {
    if (this.#size) this.#resize(this.#size);
    if (this.#sent < this.#held.end) this.#pump();
    else if (this.#isClosed) this.#sink?.endInput();
  }

  get #isClosed(): boolean {
    return this.#closedBy !== undefined;
  }

  #resize(size: TerminalSize): void {
    this.#size = size;
    this.#onUse();
    this.#sink?.resize(size.rows, size.columns);
  }

  /**
   * Credits writers byte by byte, not piece by piece: runner and link each hold credit back until half a window is
   * consumed. With whole pieces the two could hold back a full window together, and the stream would stall for ever. We
   * do not record whose each byte was: for writers that alternate, that record would outgrow the bytes.
   */
  #credit(bytes: number): void {
    const toNobody = Math.min(bytes, this.#owedToNobody);
    this.#owedToNobody -= toNobody;
    let left = bytes - toNobody;
    for (const [name, writer] of [...this.#writers]) {
      const credit = Math.min(left, writer.owed);
      if (credit === 0) continue;
      left -= credit;
      writer.owed -= credit;
      this.#writers.delete(name);
      this.#writers.set(name, writer);
      writer.port.consumed(credit);
    }
  }

  #end(name: string, writer: Writer, why: FromAgent['INPUT']['why']): void {
    this.#leave(name, writer);
    writer.port.inputOver({ taken: this.#counts.get(name) ?? 0, why });
  }

  #leave(name: string, { owed }: Writer): void {
    this.#writers.delete(name);
    this.#owedToNobody += owed;
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

  #push(bytes: Uint8Array, name: string, writer: Writer): void {
    // Nobody gets what comes behind the end that somebody else has set.
    if (this.#isClosed) {
      this.#end(name, writer, 'ended');
      return;
    }
    this.#held.push(bytes);
    writer.owed += bytes.byteLength;
    this.#count(name, bytes.byteLength);
    this.#onUse();
    this.#pump();
  }

  #close(name: string): void {
    if (this.#isClosed) return;
    this.#closedBy = name;
    if (this.#sent === this.#held.end) this.#sink?.endInput();
  }

  #pump(): void {
    if (!this.#sink || this.#sent === this.#held.end) return;
    for (const held of this.#held.from(this.#sent)) {
      const bytes = held.subarray(0, Math.max(0, this.#limit - this.#sent));
      if (bytes.byteLength === 0) return;
      this.#sink.write(bytes);
      this.#sent += bytes.byteLength;
    }
    if (this.#isClosed && this.#sent === this.#held.end) this.#sink.endInput();
  }
}

/** Whether a program is fed while it runs. */
export function feedsOn(work: RunnerSessionWork | undefined): boolean {
  if (work?.do === 'terminal') return true;
  return (work?.do === 'bash' || work?.do === 'python') && work.input === true;
}
