import { Failure } from '../../../shared/errors.ts';
import type { Clock } from '../../clock.ts';
import { createListeners } from '../../listeners.ts';
import type { Log } from '../../log.ts';
import type { EngineClient } from './engine-client.ts';
import { type EngineFacts, readEngineFacts } from './engine-facts.ts';

const FACTS_TIMEOUT_MS = 30_000;
/** An engine that was restarted between two looks has missed none, and may have other flags. To answer costs Podman a second. */
export const FACTS_MS = 600_000;

export type EngineWatchDeps = {
  client: EngineClient;
  /** Takes an engine that does not hold every limit. */
  isUnsafe: boolean;
  clock: Clock;
  log: Log;
  /** Ends what is asked of the engine. */
  signal: AbortSignal;
};

/** What the engine is, and whether it can be used now. */
export type EngineWatch = {
  readonly facts: EngineFacts;
  readonly trouble: Failure | undefined;
  /** Takes what a look at the engine found: undefined, or why there was none. */
  look(failure: Failure | undefined): Promise<void>;
  /** What is known of the engine may be out of date: the next look reads it again. */
  doubt(): void;
  /** Calls back when an engine that was away can be used again; returns how to stop. */
  onReachable(listener: () => void): () => void;
};

/** Rejects with a Failure where the engine cannot be used. */
export async function createEngineWatch(deps: EngineWatchDeps): Promise<EngineWatch> {
  const { client, isUnsafe, clock, log, signal } = deps;
  const reachable = createListeners();
  let trouble: Failure | undefined;
  let isReading = false;
  let readAtMs = Number.NEGATIVE_INFINITY;
  let facts = await readFacts(undefined);

  async function readFacts(before: EngineFacts | undefined): Promise<EngineFacts> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(FACTS_TIMEOUT_MS)]);
    const found = await readEngineFacts(client, { isUnsafe, signal: limited });
    if (trouble !== undefined || JSON.stringify(found) !== JSON.stringify(before))
      log('engine_connected', { engine: client.shown, ...found });
    readAtMs = clock.now();
    return found;
  }

  function lose(cause: unknown): void {
    if (signal.aborted) return;
    if (trouble === undefined) log('engine_lost', { engine: client.shown, cause });
    trouble =
      cause instanceof Failure ? cause : new Failure('backend_unavailable', 'The engine fails.', { cause });
  }

  return {
    get facts() {
      return facts;
    },
    get trouble() {
      return trouble;
    },
    doubt() {
      readAtMs = Number.NEGATIVE_INFINITY;
    },
    async look(failure) {
      if (failure) return lose(failure);
      if (isReading || (trouble === undefined && clock.now() - readAtMs < FACTS_MS)) return;
      isReading = true;
      try {
        facts = await readFacts(facts);
        if (trouble === undefined) return;
        trouble = undefined;
        reachable.tell();
      } catch (cause) {
        lose(cause);
      } finally {
        isReading = false;
      }
    },
    onReachable: reachable.add,
  };
}
