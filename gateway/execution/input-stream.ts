import { type ErrorCode, Failure } from '../../shared/errors.ts';
import { HeldBytes } from '../../shared/held-bytes.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import type { TerminalSize } from '../../shared/session-messages.ts';
import { notHere } from '../clusters/ask-instance.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { AgentMessage } from '../link/link-state.ts';
import { refusalCode } from './agent-codes.ts';
import { joinedSister, OPEN_TIMEOUT_MS, type SisterDeps, type Whereabouts } from './sister-link.ts';

export type InputStreamOptions = Whereabouts & {
  /** A newer stream of the same writer takes the place of the older. */
  writer: string;
};

/** Why it ended: all was taken, and stdin is closed or open; the program or, by another's word, its stdin ended; the writer writes elsewhere. */
export type InputEnd = FromAgent['INPUT']['why'];

/**
 * Feeds a program that runs at an agent (shared/protocol.md 14). A link that is lost is replaced, and what it lost is sent
 * again, once: it keeps what the program has not taken, one window at most. Positions are the writer's own.
 */
export class InputStream {
  readonly #deps: SisterDeps;
  readonly #options: InputStreamOptions;
  readonly #opened = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<InputEnd>();
  #link: GatewayLink | undefined;
  #stream = 0;
  /** Where the stream under way began; undefined until its ACCEPT. */
  #base: number | undefined;
  /** From the first ACCEPT on, which says where the writer goes on. */
  #held: HeldBytes | undefined;
  #ending: { keep: boolean } | undefined;
  #isOver = false;
  #size: TerminalSize | undefined;
  #wake: () => void = () => {};
  /** Until the stream under way was taken or refused, or is to be opened again. */
  #openTimer: unknown;

  private constructor(deps: SisterDeps, options: InputStreamOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#opened.promise.catch(() => {});
    this.#over.promise.catch(() => {});
  }

  /** Resolves once the agent takes input. Throws `not_found`, `conflict`, `rate_limited`, `no_agent`, `deadline_exceeded`. */
  static async open(deps: SisterDeps, options: InputStreamOptions): Promise<InputStream> {
    const stream = new InputStream(deps, options);
    void stream.#open();
    await stream.#opened.promise;
    return stream;
  }

  /** Resolves when it has ended; rejects with what ended it. */
  get over(): Promise<InputEnd> {
    return this.#over.promise;
  }

  /** Bytes that this writer has sent in all, over this stream and those before. */
  get position(): number {
    return this.#held?.end ?? 0;
  }

  /** Resolves when there is room for more. `bytes` must not change afterwards. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#isOver || this.#ending) return;
    if (bytes.byteLength > 0) {
      this.#held?.push(bytes);
      if (this.#base !== undefined) this.#link?.streams.input(this.#stream, bytes);
    }
    while (!this.#hasRoom && !this.#isOver)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
  }

  /** Of a terminal. */
  resize(size: TerminalSize): void {
    this.#size = size;
    if (this.#base !== undefined && !this.#isOver) this.#link?.streams.resize(this.#stream, size);
  }

  /** Says that this was all, and waits until the agent has it. `keep`: others may go on. */
  end(keep: boolean): Promise<InputEnd> {
    this.#ending ??= { keep };
    if (this.#base !== undefined && !this.#isOver) this.#link?.streams.inputEnd(this.#stream, this.#ending);
    return this.over;
  }

  /** Leaves at once. */
  leave(): void {
    if (this.#isOver) return;
    this.#link?.streams.detach(this.#stream);
    this.#finish('kept');
  }

  get #hasRoom(): boolean {
    return this.#base !== undefined && (this.#link?.streams.room(this.#stream) ?? 0) > 0;
  }

  /** Again whenever its link was lost: an agent that answered once may not answer the next time. */
  async #open(): Promise<void> {
    this.#openTimer = this.#deps.timers.setTimeout(() => this.#unanswered(), OPEN_TIMEOUT_MS);
    const link = await joinedSister(this.#deps, this.#options, () => !this.#isOver);
    if (this.#isOver) return;
    if (!link) {
      this.#fail(notHere('program'));
      return;
    }
    const { executionId, writer } = this.#options;
    this.#link = link;
    this.#stream = link.streams.feed(
      { execution_id: executionId, writer },
      {
        control: (message) => this.#control(message),
        data: () => 'protocol_error',
        room: () => this.#room(),
        lost: () => this.#lost(),
      },
    );
  }

  #openIn(delayMs: number): void {
    this.#stopClock();
    this.#openTimer = this.#deps.timers.setTimeout(() => void this.#open(), delayMs);
  }

  #control(message: AgentMessage): ErrorCode | null {
    switch (message.name) {
      case 'ACCEPT':
        return this.#accepted(message.body.input?.taken);
      case 'NACK': {
        const { code, detail, retry_after_ms } = message.body;
        const failure = new Failure(codeOf(code), detail, { retryAfterMs: retry_after_ms ?? 1_000 });
        // Once it has begun it waits for its place again: who were told to come back would send all of it twice.
        if (failure.code === 'rate_limited' && this.#held) this.#openIn(failure.retryAfterMs ?? 1_000);
        else this.#fail(failure);
        return null;
      }
      case 'INPUT':
        if (this.#base === undefined) return 'protocol_error';
        this.#finish(message.body.why);
        return null;
      default:
        return 'protocol_error';
    }
  }

  #accepted(taken: number | undefined): ErrorCode | null {
    if (taken === undefined || this.#base !== undefined) return 'protocol_error';
    this.#held ??= new HeldBytes(taken);
    if (taken > this.#held.end || taken < this.#held.start) {
      this.#link?.streams.detach(this.#stream);
      this.#fail(new Failure('agent_lost', 'The agent does not know how much input came before.'));
      return null;
    }
    this.#stopClock();
    this.#base = taken;
    this.#held.forget(taken);
    if (this.#size) this.#link?.streams.resize(this.#stream, this.#size);
    for (const bytes of this.#held.from(taken)) this.#link?.streams.input(this.#stream, bytes);
    if (this.#ending) this.#link?.streams.inputEnd(this.#stream, this.#ending);
    this.#opened.resolve();
    this.#wake();
    return null;
  }

  #room(): void {
    const { streams } = this.#link as GatewayLink;
    if (this.#base !== undefined)
      this.#held?.forget(this.#base + streams.inputLimit(this.#stream) - STREAM_WINDOW_BYTES);
    this.#wake();
  }

  #unanswered(): void {
    this.#link?.streams.detach(this.#stream);
    // Where it took input before, nobody knows how much more of it has come.
    const started = this.#held ? 'unknown' : 'no';
    const detail = 'The agent did not say in time whether it takes input.';
    this.#fail(new Failure('deadline_exceeded', detail, { started }));
  }

  #stopClock(): void {
    this.#deps.timers.clearTimeout(this.#openTimer);
  }

  #lost(): void {
    this.#stopClock();
    this.#link = undefined;
    this.#base = undefined;
    if (!this.#isOver) void this.#open();
  }

  #finish(why: InputEnd): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stopClock();
    this.#held?.clear();
    this.#over.resolve(why);
    this.#wake();
  }

  #fail(failure: Failure): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stopClock();
    this.#held?.clear();
    this.#opened.reject(failure);
    this.#over.reject(failure);
    this.#wake();
  }
}

function codeOf(code: string): ErrorCode {
  return code === 'not_found' || code === 'conflict' ? code : refusalCode(code);
}
