import { Failure } from '../../shared/errors.ts';
import type { StartBody } from '../../shared/messages.ts';
import { createHolderCounts } from './holder-counts.ts';
import type { LiveExecution } from './live-execution.ts';

/** The executions that are under way, until the agent takes no more and the last has ended. */
export type LiveExecutions = {
  /** Throws `draining` where none begins any more. */
  requireOpen(): void;
  /** Throws `rate_limited` where the holder of the key has as many as it may. */
  requireRoom(start: StartBody): void;
  enter(live: LiveExecution): void;
  /** It is over. */
  leave(live: LiveExecution): void;
  get(executionId: string): LiveExecution | undefined;
  readonly size: number;
  /** Refuses those that wait for a sandbox, and all to come. Resolves when nothing runs but terminals. */
  drain(): Promise<void>;
  /** Ends what still runs. */
  killAll(failure: Failure): void;
};

export function createLiveExecutions(): LiveExecutions {
  const running = new Map<string, LiveExecution>();
  const holders = createHolderCounts();
  const drained = Promise.withResolvers<void>();
  let draining = false;

  /** Terminals end with this agent: nobody waits for a shell. */
  const isIdle = () => [...running.values()].every(({ start }) => start.session?.do === 'terminal');

  return {
    requireOpen() {
      if (draining) throw shuttingDown();
    },
    requireRoom: ({ holder, concurrency }) => holders.require(holder, concurrency),
    enter(live) {
      holders.enter(live.start.holder);
      running.set(live.start.execution_id, live);
    },
    leave({ start, over }) {
      running.delete(start.execution_id);
      over.resolve();
      holders.leave(start.holder);
      if (draining && isIdle()) drained.resolve();
    },
    get: (executionId) => running.get(executionId),
    get size() {
      return running.size;
    },
    drain() {
      draining = true;
      const failure = shuttingDown();
      for (const { acceptedMs, execution } of [...running.values()])
        if (acceptedMs === null) execution.refuse(failure);
      if (isIdle()) drained.resolve();
      return drained.promise;
    },
    killAll(failure) {
      for (const { execution } of [...running.values()]) execution.kill(failure);
    },
  };
}

function shuttingDown(): Failure {
  return new Failure('draining', 'The agent is shutting down.');
}
