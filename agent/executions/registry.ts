import { MAX_RECORDS, ORPHAN_MS, RECORD_TTL_MS } from '../../shared/limits.ts';
import type { AttachedBody, ExitBody, FromAgent } from '../../shared/messages.ts';
import type { Clock } from '../clock.ts';
import { digestOf } from './digest-of.ts';
import type { ExecutionOutput } from './execution-output.ts';
import { withoutNames } from './exits.ts';

/** What an agent remembers of an execution (shared/protocol.md 9). */
export type ExecutionRecord = {
  /** Of its id. */
  readonly digest: string;
  readonly acceptedAtMs: number;
  /** What it said, for those who ask later. */
  readonly output: ExecutionOutput;
  /** What ATTACH is answered with. */
  readonly told: AttachedBody;
  startedAtMs: number | null;
  endedAtMs: number | null;
  exit: ExitBody | null;
};

export type RegistryDeps = { clock: Clock; maxRecords?: number; ttlMs?: number };

/** Every id that this instance has run or refused, for as long as somebody may ask: nothing runs twice. */
export type Registry = {
  /** The id is known or fenced: a START with it is a duplicate. */
  has(executionId: string): boolean;
  /** Remembers an execution. It stays at least until `end`, however many there are. */
  begin(executionId: string, output: ExecutionOutput, told: AttachedBody): ExecutionRecord;
  get(executionId: string): ExecutionRecord | undefined;
  /** The execution ended. `exit` is kept without the names of omitted files, which could fill the memory. */
  end(record: ExecutionRecord, exit: ExitBody): void;
  /** Nothing ran and nothing will: the id may come again. */
  forget(record: ExecutionRecord): void;
  /** Answers STATUS. With `refuse` an unknown id is fenced first. */
  status(executionId: string, refuse: boolean): Pick<FromAgent['STATUS'], 'state' | 'record'>;
  /** Resolves when no end is on its way to anybody, and nobody who lost its link may still come for one; or with `signal`. */
  allTold(signal: AbortSignal): Promise<void>;
  readonly size: number;
};

export function createRegistry({
  clock,
  maxRecords = MAX_RECORDS,
  ttlMs = RECORD_TTL_MS,
}: RegistryDeps): Registry {
  /** By digests of their ids, as fences are. */
  const records = new Map<string, ExecutionRecord>();
  /** In order of their ends: the first is the oldest. */
  const ended = new Set<ExecutionRecord>();
  /** When each was fenced. */
  const fences = new Map<string, number>();

  function expire(): void {
    const before = clock.now() - ttlMs;
    for (const record of ended) {
      if ((record.endedAtMs ?? 0) > before && records.size + fences.size <= maxRecords) break;
      ended.delete(record);
      records.delete(record.digest);
      record.output.forget();
    }
    // A fence is a promise: it is never dropped early to make room.
    for (const [digest, fencedAtMs] of fences) {
      if (fencedAtMs > before) break;
      fences.delete(digest);
    }
  }

  function status(executionId: string, refuse: boolean): Pick<FromAgent['STATUS'], 'state' | 'record'> {
    expire();
    const digest = digestOf(executionId);
    const record = records.get(digest);
    if (record) return { state: stateOf(record), record: describe(record) };
    if (fences.has(digest)) return { state: 'fenced', record: null };
    if (!refuse || fences.size >= maxRecords) return { state: 'unknown', record: null };
    fences.set(digest, clock.now());
    return { state: 'fenced', record: null };
  }

  function describe({ acceptedAtMs, startedAtMs, endedAtMs, exit }: ExecutionRecord) {
    const acceptedMsAgo = Math.max(0, Math.round(clock.now() - acceptedAtMs));
    // What lies between is the same at any time.
    const ago = (at: number) => Math.max(0, acceptedMsAgo - Math.round(at - acceptedAtMs));
    return {
      accepted_at_ms_ago: acceptedMsAgo,
      started_at_ms_ago: startedAtMs === null ? null : ago(startedAtMs),
      ended_at_ms_ago: endedAtMs === null ? null : ago(endedAtMs),
      exit,
    };
  }

  function isAwaited({ endedAtMs, output }: ExecutionRecord): boolean {
    return (endedAtMs ?? 0) > clock.now() - ORPHAN_MS && output.isUntold;
  }

  /** Waits until it may be told, or nobody comes for it any more. */
  async function told({ endedAtMs, output }: ExecutionRecord, signal: AbortSignal): Promise<void> {
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const onAbort = () => resolve();
    const cancel = clock.after((endedAtMs ?? 0) + ORPHAN_MS - clock.now(), resolve);
    signal.addEventListener('abort', onAbort, { once: true });
    await Promise.race([output.nextTold(), over]);
    signal.removeEventListener('abort', onAbort);
    cancel();
  }

  return {
    has(executionId) {
      expire();
      const digest = digestOf(executionId);
      return records.has(digest) || fences.has(digest);
    },
    begin(executionId, output, told) {
      const times = { acceptedAtMs: clock.now(), startedAtMs: null, endedAtMs: null };
      const digest = digestOf(executionId);
      const record = { digest, ...times, output, told, exit: null };
      records.set(digest, record);
      return record;
    },
    get(executionId) {
      expire();
      return records.get(digestOf(executionId));
    },
    end(record, exit) {
      record.endedAtMs = clock.now();
      record.exit = withoutNames(exit);
      ended.add(record);
      expire();
    },
    forget(record) {
      records.delete(record.digest);
    },
    status,
    async allTold(signal) {
      let hasWaited = true;
      // Again behind each wait: one that was told may have been asked for anew meanwhile.
      while (hasWaited && !signal.aborted) {
        hasWaited = false;
        for (const record of ended)
          if (!signal.aborted && isAwaited(record)) {
            hasWaited = true;
            await told(record, signal);
          }
      }
    },
    get size() {
      return records.size + fences.size;
    },
  };
}

function stateOf(record: ExecutionRecord): 'accepted' | 'started' | 'ended' {
  if (record.endedAtMs !== null) return 'ended';
  return record.startedAtMs === null ? 'accepted' : 'started';
}
