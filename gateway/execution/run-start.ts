import { Failure, type Started } from '../../shared/errors.ts';
import type { SessionWork } from '../../shared/session-messages.ts';
import type { Placement } from '../clusters/placement.ts';
import { sessionWorkOf } from '../sessions/session-order.ts';
import type { ExecutionOrder } from './execution-order.ts';
import { type ClaimAsk, type ClaimDeps, claimKey, type KeyOrder, releaseKey } from './key-claim.ts';

/** What one START says of its execution, and no other's does. */
export type StartParts = { readonly executionId: string; readonly session: SessionWork | undefined };

/** What comes before START, over all attempts of one run: its id, and its `Idempotency-Key` kept for it. */
export class RunStart {
  readonly #deps: ClaimDeps;
  readonly #order: ExecutionOrder;
  readonly #queueLeftMs: () => number;
  readonly #ended = new AbortController();
  #claimed: ClaimAsk | undefined;
  #claims = false;

  constructor(deps: ClaimDeps, order: ExecutionOrder, queueLeftMs: () => number) {
    this.#deps = deps;
    this.#order = order;
    this.#queueLeftMs = queueLeftMs;
  }

  /** Rejects with a Failure where it may not begin: nothing has run. */
  async prepare({ cluster, instance }: Placement): Promise<StartParts> {
    const { key, session, wanted } = this.#order;
    const { tenant, principalDigest } = wanted.caller;
    const kind = session ? 'w' : 'x';
    const { template } = wanted;
    const parts = { kind, tenant, principalDigest, cluster, instance, template } as const;
    const executionId = await this.#deps.ids.seal(parts).catch((cause: unknown) => {
      throw new Failure('internal', 'No id could be made for this execution.', { cause });
    });
    const work = session && (await sessionWorkOf(session, parts, this.#deps.ids));
    if (key) await this.#claim(key, executionId, cluster);
    return { executionId, session: work };
  }

  /** Whether it waits to be told what became of its key. */
  get claims(): boolean {
    return this.#claims;
  }

  /** The run is over. What surely did not begin, and will not, gives its key back. */
  end(started: Started): void {
    this.#ended.abort();
    if (started === 'no' && this.#claimed) releaseKey(this.#deps, this.#claimed);
  }

  async #claim(key: KeyOrder, executionId: string, cluster: string): Promise<void> {
    const { wanted, timeoutMs } = this.#order;
    const { tenant, holder } = wanted.caller;
    const replaces = this.#claimed?.executionId ?? null;
    const waitMs = this.#queueLeftMs();
    const keepMs = timeoutMs + waitMs;
    const order = { tenant, holder, cluster, executionId, key };
    const ask = { ...order, replaces, keepMs, waitMs, signal: this.#ended.signal };
    this.#claimed = ask;
    this.#claims = true;
    const other = await claimKey(this.#deps, ask)
      .catch((error: unknown) => {
        throw error instanceof Failure ? error : new Failure('internal', 'Podgate failed.', { cause: error });
      })
      .finally(() => {
        this.#claims = false;
        // An agent that was being asked may have taken it since, over another link than the one on which it was given back.
        if (this.#ended.signal.aborted) releaseKey(this.#deps, ask);
      });
    if (other === null) return;
    key.found(other);
    throw new Failure('duplicate', 'Another gateway has begun what this key stands for.');
  }
}
