import { type Failure, isErrorCode } from '../../shared/errors.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { ReceivedBytes } from './check-exit.ts';
import type { Ending } from './ending.ts';
import type { ExecutionOrder } from './execution-order.ts';
import type { ExecutionRecord } from './execution-record.ts';
import type { ExecutionState } from './execution-state.ts';

export type RunFacts = {
  executionId: string | null;
  cluster: string | null;
  instance: string | null;
  attempts: number;
  ending: Ending | null;
  failure: Failure | null;
  received: ReceivedBytes;
  stored: { count: number; bytes: number };
};

type Phase = 'placed' | 'accepted' | 'started' | 'ended';

/** When one execution entered which phase, and the record made of it at its end. */
export class RunPhases {
  readonly #order: ExecutionOrder;
  readonly #deps: Pick<GatewayDeps, 'now' | 'elapsed'>;
  readonly #at = new Map<Phase, number>();

  constructor(order: ExecutionOrder, deps: Pick<GatewayDeps, 'now' | 'elapsed'>) {
    this.#order = order;
    this.#deps = deps;
  }

  /** START went out. The last time counts: an execution that was refused is placed again. */
  mark(phase: Phase): void {
    this.#at.set(phase, this.#deps.elapsed());
  }

  /** The execution is in another state. */
  enter(at: ExecutionState['at']): void {
    if (at === 'accepted' || at === 'started') this.mark(at);
    else if (at === 'over') this.mark('ended');
  }

  get queueMs(): number | null {
    return this.#between(this.#order.receivedMs, this.#at.get('placed'));
  }

  async record({
    executionId,
    cluster,
    instance,
    attempts,
    ending,
    failure,
    received,
    stored,
  }: RunFacts): Promise<ExecutionRecord> {
    const { wanted, input, requestId, traceparent, streamed, receivedMs, codeDigest } = this.#order;
    const { caller, template, language } = wanted;
    const totalMs = Math.round(this.#deps.elapsed() - receivedMs);
    const [placed, accepted, started, ended] = (['placed', 'accepted', 'started', 'ended'] as const).map(
      (phase) => this.#at.get(phase),
    );
    return {
      execution_id: executionId,
      request_id: requestId,
      traceparent,
      tenant: caller.tenant,
      principal: caller.principal,
      key_id: caller.jti,
      code_sha256: await codeDigest,
      cluster,
      instance,
      template,
      language: language ?? '',
      streamed,
      attempts,
      outcome: ending?.result.outcome ?? null,
      code: failure && isErrorCode(failure.code) ? failure.code : null,
      started: ending ? 'yes' : (failure?.started ?? 'unknown'),
      bytes_in: input.bytes,
      files_in: input.files.length,
      stdout_bytes: ending?.result.stdout_bytes ?? received.stdout,
      stderr_bytes: ending?.result.stderr_bytes ?? received.stderr,
      files_out: ending ? stored.count : 0,
      file_bytes_out: ending ? stored.bytes : 0,
      received_at_ms: Math.round(this.#deps.now() - totalMs),
      queue_ms: this.#between(receivedMs, placed),
      accept_ms: this.#between(placed, accepted),
      start_ms: this.#between(accepted, started),
      run_ms: this.#between(started, ended),
      total_ms: totalMs,
      duration_ms: ending?.result.duration_ms ?? null,
      cpu_ms: ending?.result.cpu_ms ?? null,
      peak_memory_bytes: ending?.result.peak_memory_bytes ?? null,
    };
  }

  #between(from: number | undefined, to: number | undefined): number | null {
    return from === undefined || to === undefined ? null : Math.max(0, Math.round(to - from));
  }
}
