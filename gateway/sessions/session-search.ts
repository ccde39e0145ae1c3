import { Failure } from '../../shared/errors.ts';
import { MAX_ATTEMPTS } from '../../shared/limits.ts';
import type { Caller } from '../auth/caller.ts';
import { notHere } from '../clusters/ask-instance.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { NO_AGENT_RETRY_MS, type Placement } from '../clusters/placement.ts';
import type { ExecutionEvent } from '../execution/execution-event.ts';
import type { RunClocks } from '../execution/run-clocks.ts';
import type { Search } from '../execution/slot-search.ts';

export type SessionSearchOptions = {
  caller: Caller;
  cluster: string;
  /** Where the session lives: nobody else has it. */
  instance: string;
  directory: ClusterDirectory;
  placed(placement: Placement): void;
  apply(event: ExecutionEvent): void;
  clocks: Pick<RunClocks, 'queueIsOver'>;
};

/** Finds a link to the instance that a session lives at, and waits for one where there is none now. */
export class SessionSearch implements Search {
  readonly #options: SessionSearchOptions;
  #tries = 0;
  #stopListening: () => void = () => {};
  #found = false;

  constructor(options: SessionSearchOptions) {
    this.#options = options;
  }

  begin(): void {
    const { directory, caller, instance } = this.#options;
    this.#found = false;
    // Never in the caller's own turn: it has not finished making the run.
    queueMicrotask(() => this.#look());
    this.#stopListening = directory.onJoin((tenant, joined) => {
      if (tenant === caller.tenant && joined === instance) this.#look();
    });
  }

  again(): void {
    this.#tries += 1;
    this.#stopListening();
    if (this.#tries < MAX_ATTEMPTS) this.begin();
    else this.timeOut();
  }

  elsewhere(_refusing: string, failure: Failure): void {
    this.#options.apply({ type: 'nowhere_else', failure });
  }

  timeOut(): void {
    this.stop();
    const { directory, caller, cluster, instance, apply } = this.#options;
    // It drains, or refused each time: neither is its absence.
    const isHere = directory.linkTo({ tenant: caller.tenant, instance, cluster }) !== undefined;
    apply({ type: 'queue_over', failure: isHere ? takesNoWork() : notHere('session') });
  }

  stop(): void {
    this.#found = true;
    this.#stopListening();
  }

  #look(): void {
    if (this.#found) return;
    const { directory, caller, cluster, instance, placed, clocks } = this.#options;
    const link = directory.linkTo({ tenant: caller.tenant, instance, cluster }, true);
    if (link) {
      this.stop();
      placed({ cluster, instance, link, release() {} });
    } else if (clocks.queueIsOver) this.timeOut();
  }
}

function takesNoWork(): Failure {
  const detail = 'The agent that has this session takes no work now.';
  return new Failure('no_agent', detail, { retryAfterMs: NO_AGENT_RETRY_MS });
}
