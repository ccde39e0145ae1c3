import { type ErrorCode, Failure } from '../../shared/errors.ts';
import { digestPrincipal } from '../../shared/principal.ts';
import type { Caller } from '../auth/caller.ts';
import { EndedMemory } from './ended-memory.ts';
import type { ExecutionFollower } from './execution-follower.ts';
import type { ExecutionOrder } from './execution-order.ts';
import type { ExecutionRun } from './execution-run.ts';

/** Keys that one gateway remembers of executions that are over, the oldest goes first; and those of executions under way. */
export const MAX_KEYS = 100_000;
const RETRY_MS = 1_000;
/** What `Idempotency-Key` may be: visible ASCII. */
const KEY = /^[\x21-\x7e]{1,255}$/;

/** What is in the way of one who asks, and says nothing of the execution. */
const OWN_TROUBLE: readonly ErrorCode[] = ['rate_limited', 'unauthorized', 'conflict'];

/** `Idempotency-Key` of one request, and a digest of all that the request asks for. */
export type RequestKey = { readonly text: string; readonly digest: string };

/** One key, and the execution that its first request began. */
export type KeyedExecution = {
  readonly digest: string;
  /** Resolves when its code began; rejects with what refused it before. */
  readonly begun: Promise<string>;
  /** What ended it otherwise than by its program. */
  failure: Failure | null;
};

export type KeyedDeps = {
  /** Milliseconds that only go forward. */
  elapsed: () => number;
  start(order: ExecutionOrder): ExecutionRun;
  /** `signal`: whoever asked is gone, and what was taken to read for it is given back. */
  follow(executionId: string, caller: Caller, signal: AbortSignal): Promise<ExecutionFollower>;
  maxKeys?: number;
  maxKeysPerTenant?: number;
};

/** `Idempotency-Key` of a request, if it has one. Throws where that is no key. */
export function readKey(headers: Headers): string | null {
  const text = headers.get('idempotency-key');
  if (text === null || KEY.test(text)) return text;
  const message = 'Idempotency-Key is 1 to 255 visible ASCII characters.';
  throw new Failure('invalid_request', message, { errors: [{ path: 'Idempotency-Key', message }] });
}

/**
 * Executions by their principals' keys: the first request of a key begins one, and every other until ten minutes after
 * its end reads the same. A key whose request was refused before anything ran is new again.
 */
export class KeyedExecutions {
  readonly #deps: KeyedDeps;
  readonly #running = new Map<string, KeyedExecution>();
  readonly #ended: EndedMemory<KeyedExecution>;
  readonly #maxKeys: number;

  constructor(deps: KeyedDeps) {
    const { elapsed, maxKeys = MAX_KEYS, maxKeysPerTenant = maxKeys } = deps;
    this.#deps = deps;
    this.#maxKeys = maxKeys;
    this.#ended = new EndedMemory({ elapsed, max: maxKeys, maxPerTenant: maxKeysPerTenant });
  }

  /** What a key stands for already; undefined where it is new. Throws `conflict` for another request. */
  find({ tenant, principal }: Caller, { text, digest }: RequestKey): KeyedExecution | undefined {
    const name = nameOf(principal, text);
    const known = this.#running.get(name) ?? this.#ended.get(tenant, name);
    if (known && known.digest !== digest)
      throw new Failure('conflict', 'This Idempotency-Key was used for another request; use a new one.');
    return known;
  }

  /** Begins what a new key stands for, or joins whoever was first. What fails gives the order back. */
  async open(
    order: ExecutionOrder,
    key: RequestKey,
    signal: AbortSignal,
  ): Promise<ExecutionRun | ExecutionFollower> {
    try {
      return await this.#open(order, key, signal);
    } catch (error) {
      order.release();
      throw error;
    }
  }

  async #open(
    order: ExecutionOrder,
    key: RequestKey,
    signal: AbortSignal,
  ): Promise<ExecutionRun | ExecutionFollower> {
    const { caller } = order.wanted;
    const known = this.find(caller, key);
    if (known) {
      order.release();
      return this.join(known, caller, signal);
    }
    this.#requireRoom();
    const name = nameOf(caller.principal, key.text);
    // Nobody else's: an agent may serve many principals, and a gateway many tenants.
    const id = await digestPrincipal(name);
    if (this.find(caller, key)) return this.#open(order, key, signal);
    const begun = Promise.withResolvers<string>();
    begun.promise.catch(() => {});
    const entry: KeyedExecution = { digest: key.digest, begun: begun.promise, failure: null };
    let other: string | undefined;
    const onSettled = (failure: Failure | null) => {
      this.#running.delete(name);
      if (other === undefined) {
        // Where it was refused nothing ran.
        if (failure?.started === 'no') return;
        entry.failure = failure;
      }
      this.#ended.set(caller.tenant, name, entry);
    };
    const found = (executionId: string) => {
      other = executionId;
      begun.resolve(executionId);
    };
    this.#running.set(name, entry);
    let run: ExecutionRun;
    try {
      run = this.#deps.start({ ...order, onSettled, key: { id, digest: key.digest, found } });
    } catch (error) {
      this.#running.delete(name);
      throw error;
    }
    try {
      await run.opened;
    } catch (failure) {
      run.abandon();
      if (other !== undefined) return this.join(entry, caller, signal);
      begun.reject(failure);
      throw failure;
    }
    begun.resolve(run.executionId);
    return run;
  }

  /** Reads what another request began, from its first byte. */
  async join(known: KeyedExecution, caller: Caller, signal: AbortSignal): Promise<ExecutionFollower> {
    const executionId = await known.begun.catch((error: unknown) => {
      throw isOwnTrouble(error) ? refusedFirst(error) : error;
    });
    try {
      return await this.#deps.follow(executionId, caller, signal);
    } catch (error) {
      // Its agent cannot tell any more: what its first request was told holds.
      throw known.failure && error instanceof Failure && !isOwnTrouble(error) ? known.failure : error;
    }
  }

  #requireRoom(): void {
    if (this.#running.size < this.#maxKeys) return;
    throw new Failure('at_capacity', 'Too many executions with a key are under way.', {
      retryAfterMs: RETRY_MS,
    });
  }
}

/** Another key of its principal has begun it, at a place that this one may not use: nothing is told of it, nor begun anew. */
export function outOfReach(): Failure {
  const detail = 'This Idempotency-Key stands for an execution that your key may not reach; use a new one.';
  return new Failure('conflict', detail);
}

function isOwnTrouble(error: unknown): error is Failure {
  return error instanceof Failure && OWN_TROUBLE.includes(error.code);
}

/** What those behind it hear where whoever came first was refused before its code began, and not for what it asked. */
function refusedFirst({ started }: Failure): Failure {
  const first = 'The first request with this Idempotency-Key was ended for its own key as it waited';
  return started === 'no'
    ? new Failure('at_capacity', `${first}; ask again.`, { retryAfterMs: RETRY_MS })
    : new Failure('maybe_started', `${first}, and its code may have started.`, { started });
}

/** No principal has a space. */
function nameOf(principal: string, key: string): string {
  return `${principal} ${key}`;
}
