import type { ErrorCode } from '../../shared/errors.ts';
import type { AttachedBody, ExitBody, StartBody } from '../../shared/messages.ts';
import type { FileStore } from '../files/file-store.ts';
import type { Timers } from '../gateway-deps.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { AgentMessage } from '../link/link-state.ts';
import type { StreamHandlers } from '../link/link-streams.ts';
import type { ExecutionEvent } from './execution-event.ts';
import type { ExecutionInput } from './execution-input.ts';
import { InputSender } from './input-sender.ts';
import type { RunOutput } from './run-output.ts';

/** After CANCEL the agent has this long to say EXIT; then its frames on the stream are dropped. */
const CANCEL_GRACE_MS = 60_000;

export type AgentStreamOptions = {
  link: GatewayLink;
  timers: Timers;
  output: RunOutput;
  /** Returns what the peer did wrong, if it did. */
  apply(event: ExecutionEvent): ErrorCode | null;
  /** Whether user code runs, so that output may come; or the execution is over, and what comes is thrown away. */
  phase(): 'before' | 'running' | 'over';
  /** ATTACH was answered. */
  attached?(body: AttachedBody): void;
  /** Bytes that are lost; false where the execution cannot do without them. */
  gap?(channel: number, from: number, to: number): boolean;
};

export type StreamInput = {
  input: ExecutionInput;
  /** Whose stored files may be read. */
  principal: string;
  store: FileStore;
};

/** One execution's stream on one link: what comes on it becomes events and output. */
export class AgentStream {
  readonly #options: AgentStreamOptions;
  readonly #stream: number;
  #sender: InputSender | undefined;
  #isLost = false;
  /** From CANCEL to the agent's last word. */
  #graceTimer: unknown;

  private constructor(options: AgentStreamOptions, open: (handlers: StreamHandlers) => number) {
    this.#options = options;
    this.#stream = open({
      control: (message) => this.#control(message),
      data: (channel, bytes) => this.#data(channel, bytes),
      room: () => this.#sender?.room(),
      lost: () => {
        this.#isLost = true;
        this.#end();
        options.apply({ type: 'link_lost' });
      },
    });
  }

  /** START, and the input behind it. */
  static start(options: AgentStreamOptions, start: StartBody, input: StreamInput): AgentStream {
    const { streams } = options.link;
    const stream = new AgentStream(options, (handlers) => streams.start(start, handlers));
    stream.#sender = new InputSender({
      ...input,
      streams,
      stream: stream.#stream,
      failed: (failure) => options.apply({ type: 'input_failed', failure }),
    });
    stream.#sender.start();
    return stream;
  }

  /** ATTACH, from where the output stands. `reader`: null for the run that sent START. */
  static attach(options: AgentStreamOptions, executionId: string, reader: string | null): AgentStream {
    const { link, output } = options;
    const body = { execution_id: executionId, reader, ...output.position };
    return new AgentStream(options, (handlers) => link.streams.attach(body, handlers));
  }

  /** The consumer of output took bytes: the agent may send as many more. */
  consumed(bytes: number): void {
    if (!this.#isLost) this.#options.link.streams.consumed(this.#stream, bytes);
  }

  /** Sends no more input. */
  stopInput(): void {
    this.#sender?.stop();
  }

  cancel(reason: string): void {
    const { link, timers } = this.#options;
    this.#sender?.stop();
    link.streams.cancel(this.#stream, reason);
    this.#graceTimer = timers.setTimeout(() => link.streams.release(this.#stream), CANCEL_GRACE_MS);
  }

  /** Reads no more; the execution goes on. */
  detach(): void {
    this.#options.link.streams.detach(this.#stream);
  }

  /** Nothing more is said on it. */
  #end(): void {
    this.#sender?.stop();
    this.#options.timers.clearTimeout(this.#graceTimer);
  }

  #control(message: AgentMessage): ErrorCode | null {
    const { apply, output, phase, attached } = this.#options;
    switch (message.name) {
      case 'ACCEPT':
        if (message.body.attached) attached?.(message.body.attached);
        return apply({ type: 'accept' });
      case 'STARTED':
        // Whoever attaches is told again.
        return !this.#sender && phase() === 'running' ? null : apply({ type: 'started' });
      case 'NACK': {
        const { code, detail, retry_after_ms } = message.body;
        this.#end();
        return apply({ type: 'nack', code, detail, retryAfterMs: retry_after_ms });
      }
      case 'END':
        if (phase() === 'over') return null;
        return phase() === 'running' && output.endFile(message.body) ? null : 'protocol_error';
      case 'REPLAY_GAP':
        return this.#gap(message.body);
      case 'EXIT':
        if (output.inFile && phase() !== 'over' && isWhole(message.body)) return 'protocol_error';
        this.#end();
        return apply({ type: 'exit', body: message.body });
      default:
        return 'protocol_error';
    }
  }

  #data(channel: number, bytes: Uint8Array): ErrorCode | null {
    const { output, phase } = this.#options;
    if (phase() === 'before') return 'protocol_error';
    // Cancelled: taken and thrown away, so that EXIT comes through.
    if (phase() === 'over') this.consumed(bytes.byteLength);
    else output.take(channel, bytes);
    return null;
  }

  #gap({ channel, from, to }: { channel: number; from: number; to: number }): ErrorCode | null {
    const { apply, phase, gap } = this.#options;
    if (this.#sender || phase() === 'before') return 'protocol_error';
    return phase() === 'over' || gap?.(channel, from, to) ? null : apply({ type: 'gap' });
  }
}

/** Whether all files came before it: what was lost or cancelled may end inside one. */
function isWhole({ result }: ExitBody): boolean {
  return result !== null && result.outcome !== 'cancelled';
}
