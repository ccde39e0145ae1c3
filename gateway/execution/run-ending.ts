import type { Failure } from '../../shared/errors.ts';
import type { ExecutionResult } from '../../shared/messages.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { Ending, OutputEnding } from './ending.ts';
import type { ExecutionOrder } from './execution-order.ts';
import type { ResultShelf, StoredFiles } from './result-shelf.ts';
import type { RunOutput } from './run-output.ts';
import type { RunFacts, RunPhases } from './run-phases.ts';

/** Where a run has come to. */
export type RunWhere = Pick<RunFacts, 'executionId' | 'cluster' | 'instance' | 'attempts'>;

export type RunEndingDeps = Pick<GatewayDeps, 'log' | 'onExecutionEnd'> & { shelf: ResultShelf };
export type RunEndingParts = { order: ExecutionOrder; phases: RunPhases; output: RunOutput };

/** The end of one run, told to its reader, to the log, to the shelf of files and to whoever keeps its key. */
export class RunEnding {
  readonly #deps: RunEndingDeps;
  readonly #parts: RunEndingParts;
  #filesStored: PromiseWithResolvers<StoredFiles | null> | undefined;

  constructor(deps: RunEndingDeps, parts: RunEndingParts) {
    this.#deps = deps;
    this.#parts = parts;
  }

  /** What becomes of its files; null where they are not stored, or not any more. */
  get storedFiles(): Promise<StoredFiles | null> {
    this.#filesStored ??= Promise.withResolvers();
    return this.#filesStored.promise;
  }

  finish(where: RunWhere, result: ExecutionResult, output: OutputEnding): void {
    const { order, phases } = this.#parts;
    this.#shelve(where, output);
    const { executionId, cluster } = where;
    const ending = {
      executionId: executionId ?? '',
      cluster: cluster ?? '',
      result,
      queueMs: phases.queueMs ?? 0,
      ...output,
    };
    this.#record(where, ending, null);
    order.onSettled?.(null);
    this.#parts.output.reader.end({ type: 'end', ending });
  }

  fail(where: RunWhere, failure: Failure): void {
    const { order, output } = this.#parts;
    this.#record(where, null, failure);
    order.onSettled?.(failure);
    this.#shelve(where, null);
    output.discard();
    output.reader.end({ type: 'failed', failure });
  }

  /** The agent's report of the end does not hold together. */
  logLie({ instance }: RunWhere, { cause }: Failure): void {
    this.#deps.log({ level: 'warn', event: 'exit_refused', detail: String(cause), instance: instance ?? '' });
  }

  #shelve({ executionId }: RunWhere, stored: StoredFiles | null): void {
    const { tenant } = this.#parts.order.wanted.caller;
    if (executionId !== null) this.#deps.shelf.end(tenant, executionId, stored);
    this.#filesStored?.resolve(stored);
  }

  #record(where: RunWhere, ending: Ending | null, failure: Failure | null): void {
    const { received, stored } = this.#parts.output;
    void this.#parts.phases
      .record({ ...where, ending, failure, received, stored })
      .then((record) => this.#deps.onExecutionEnd(record))
      .catch((cause: unknown) =>
        this.#deps.log({ level: 'error', event: 'record_lost', cause: String(cause).slice(0, 500) }),
      );
  }
}
