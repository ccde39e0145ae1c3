import type { ErrorCode } from '../../shared/errors.ts';
import type { StartBody } from '../../shared/messages.ts';
import type { FileStore } from '../files/file-store.ts';
import type { Timers } from '../gateway-deps.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { AgentMessage } from '../link/link-state.ts';
import type { ExecutionInput } from './execution-input.ts';
import type { ExecutionEvent } from './execution-state.ts';
import { InputSender } from './input-sender.ts';
import type { RunOutput } from './run-output.ts';

/** After CANCEL the agent has this long to say EXIT; then its frames on the stream are dropped. */
const CANCEL_GRACE_MS = 60_000;

export type AgentStreamOptions = {
  link: GatewayLink;
  start: StartBody;
  input: ExecutionInput;
  /** Whose stored files may be read. */
  owner: string;
  store: FileStore;
  timers: Timers;
  output: RunOutput;
  /** Returns what the peer did wrong, if it did. */
  apply(event: ExecutionEvent): ErrorCode | null;
  /** Whether user code runs, so that output may come; or the execution is over, and what comes is thrown away. */
  phase(): 'before' | 'running' | 'over';
};

/** One execution's stream on one link: START and input go out; what comes back becomes events and output. */
export class AgentStream {
  readonly #options: AgentStreamOptions;
  readonly #stream: number;
  readonly #sender: InputSender;

  constructor(options: AgentStreamOptions) {
    this.#options = options;
    const { link, start, input, owner, store, apply } = options;
    this.#stream = link.streams.start(start, {
      control: (message) => this.#control(message),
      data: (channel, bytes) => this.#data(channel, bytes),
      room: () => this.#sender.room(),
      lost: () => {
        this.#sender.stop();
        apply({ type: 'link_lost' });
      },
    });
    this.#sender = new InputSender({
      streams: link.streams,
      stream: this.#stream,
      input,
      owner,
      store,
      failed: (failure) => apply({ type: 'input_failed', failure }),
    });
    this.#sender.start();
  }

  /** The consumer of output took bytes: the agent may send as many more. */
  consumed(bytes: number): void {
    this.#options.link.streams.consumed(this.#stream, bytes);
  }

  /** Sends no more input. */
  stopInput(): void {
    this.#sender.stop();
  }

  cancel(reason: string): void {
    const { link, timers } = this.#options;
    this.#sender.stop();
    link.streams.cancel(this.#stream, reason);
    timers.setTimeout(() => link.streams.release(this.#stream), CANCEL_GRACE_MS);
  }

  acknowledge(): void {
    const { link, start } = this.#options;
    link.acknowledge(start.execution_id);
  }

  #control(message: AgentMessage): ErrorCode | null {
    const { apply, output, phase } = this.#options;
    switch (message.name) {
      case 'ACCEPT':
        return apply({ type: 'accept' });
      case 'STARTED':
        return apply({ type: 'started' });
      case 'NACK': {
        const { code, detail, retry_after_ms } = message.body;
        this.#sender.stop();
        return apply({ type: 'nack', code, detail, retryAfterMs: retry_after_ms });
      }
      case 'END':
        if (phase() === 'over') return null;
        return phase() === 'running' && output.endFile(message.body) ? null : 'protocol_error';
      case 'EXIT':
        if (output.inFile && phase() !== 'over') return 'protocol_error';
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
}
