import { type SandboxRunner, withStart } from '../pool/steady-runner.ts';
import type { RunnerExecution } from '../runner/runner-execution.ts';

/** What a runner says of the end of one piece of work: `late` where that had been given up before. */
export type HeardExit = {
  readonly runner: SandboxRunner;
  /** Whether it was given any. */
  readonly began: boolean;
  readonly exited: Promise<'before' | 'late' | 'broken'>;
  /** From here on an end is late, and whatever else the runner has to say is thrown away. */
  cancel(): void;
};

/** A runner as it is, whose word on the end of the work that it is given is heard here too. */
export function hearingExit(runner: SandboxRunner): HeardExit {
  const exited = Promise.withResolvers<'before' | 'late' | 'broken'>();
  let isLate = false;
  let work: RunnerExecution | undefined;
  return {
    get began() {
      return work !== undefined;
    },
    exited: exited.promise,
    cancel() {
      isLate = true;
      work?.cancel('silent');
    },
    runner: withStart(runner, (streamId, body, handlers) => {
      work = runner.start(streamId, body, {
        ...handlers,
        exit(exit) {
          exited.resolve(!isLate ? 'before' : exit.failure?.code === 'runner_error' ? 'broken' : 'late');
          handlers.exit(exit);
        },
        lost(reason, end) {
          exited.resolve('broken');
          handlers.lost(reason, end);
        },
      });
      return work;
    }),
  };
}
