import { createHash } from 'node:crypto';
import type { ExecutionResult, FromAgent, StartBody } from '../../shared/messages.ts';
import { type MockAgent, RESULT } from './mock-agent.ts';
import { until } from './until.ts';

const encoder = new TextEncoder();

/** One START at a mock agent, and what a test lets become of it. */
export class MockExecution {
  readonly agent: MockAgent;
  readonly stream: number;
  readonly start: StartBody;
  /** Reason of the CANCEL that came. */
  cancelled: string | undefined;
  readonly sent = { stdout: 0, stderr: 0 };
  #input: Uint8Array[] = [];
  #inputEnded = false;

  constructor(agent: MockAgent, stream: number, start: StartBody) {
    this.agent = agent;
    this.stream = stream;
    this.start = start;
  }

  get id(): string {
    return this.start.execution_id;
  }

  accept(): this {
    this.agent.send('ACCEPT', {}, this.stream);
    return this;
  }

  /** ACCEPT and STARTED. */
  begin(): this {
    this.accept();
    this.agent.send('STARTED', {}, this.stream);
    return this;
  }

  /** Answers ATTACH; `began`: and STARTED. */
  resume(began = true): this {
    const attached = { max_output_bytes: this.start.limits.max_output_bytes, queue_ms: this.start.queue_ms };
    this.agent.send('ACCEPT', { attached }, this.stream);
    if (began) this.agent.send('STARTED', {}, this.stream);
    return this;
  }

  /** Bytes of a channel are lost. */
  gap(channel: 1 | 2 | 3, from: number, to: number): this {
    this.agent.peer.gap(this.stream, channel, from, to);
    return this;
  }

  nack(code: string, detail = 'No.', retryAfterMs: number | null = null): void {
    this.agent.send('NACK', { code, detail, retry_after_ms: retryAfterMs }, this.stream);
    this.agent.ended(this, true);
  }

  out(text: string | Uint8Array): this {
    return this.#print(1, text);
  }

  err(text: string | Uint8Array): this {
    return this.#print(2, text);
  }

  file(path: string, content: string | Uint8Array, changes: Partial<FromAgent['END']> = {}): this {
    const bytes = typeof content === 'string' ? encoder.encode(content) : content;
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    this.agent.peer.data(this.stream, 3, bytes);
    this.agent.peer.behind('END', this.stream, 3, { path, size: bytes.byteLength, sha256, ...changes });
    return this;
  }

  /** Bytes of a file whose END does not come. */
  partOfFile(content: string): this {
    this.agent.peer.data(this.stream, 3, encoder.encode(content));
    return this;
  }

  /** EXIT with what was sent counted, unless `changes` say otherwise. */
  exit(changes: Partial<ExecutionResult> = {}): void {
    const { stdout, stderr } = this.sent;
    const result = { ...RESULT, stdout_bytes: stdout, stderr_bytes: stderr, ...changes };
    this.agent.peer.behind('EXIT', this.stream, 0, { result, failure: null });
    this.agent.ended(this);
  }

  fail(code: string, started: 'yes' | 'no' | 'unknown', detail = 'It broke.'): void {
    this.agent.peer.behind('EXIT', this.stream, 0, { result: null, failure: { code, detail, started } });
    this.agent.ended(this);
  }

  /** Begins, prints and exits. */
  succeed(text = ''): void {
    this.begin().out(text).exit();
  }

  takeInput(bytes: Uint8Array): void {
    this.#input.push(bytes.slice());
  }

  inputEnded(): void {
    this.#inputEnded = true;
  }

  flush(): void {}

  cancel(reason: string): void {
    this.cancelled = reason;
  }

  /** The whole input, once it is here, cut by the sizes of START. */
  async input(): Promise<{ manifest: unknown; code: string; stdin: string; files: string }> {
    await until(() => this.#inputEnded);
    const bytes = Buffer.concat(this.#input);
    const { manifest, code, stdin, files } = this.start.sizes;
    const ends = [manifest, manifest + code, manifest + code + (stdin ?? 0)] as const;
    if (bytes.byteLength !== ends[2] + files) throw new Error('input has not the size that START announced');
    return {
      manifest: JSON.parse(bytes.subarray(0, ends[0]).toString()),
      code: bytes.subarray(ends[0], ends[1]).toString(),
      stdin: bytes.subarray(ends[1], ends[2]).toString(),
      files: bytes.subarray(ends[2]).toString(),
    };
  }

  get inputBytes(): number {
    return this.#input.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  #print(channel: 1 | 2, text: string | Uint8Array): this {
    const bytes = typeof text === 'string' ? encoder.encode(text) : text;
    this.sent[channel === 1 ? 'stdout' : 'stderr'] += bytes.byteLength;
    this.agent.peer.data(this.stream, channel, bytes);
    return this;
  }
}
