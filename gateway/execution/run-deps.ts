import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { MemoryBudget } from '../memory-budget.ts';
import type { SlotQueue } from '../queue/slot-queue.ts';
import type { ExecutionRun } from './execution-run.ts';
import type { ResultShelf } from './result-shelf.ts';

export type RunDeps = Pick<
  GatewayDeps,
  'config' | 'now' | 'elapsed' | 'timers' | 'log' | 'authenticator' | 'ids' | 'fileStore' | 'onExecutionEnd'
> & {
  directory: ClusterDirectory;
  queue: SlotQueue;
  outputMemory: MemoryBudget;
  shelf: ResultShelf;
  /** START went out. It may happen again, elsewhere. */
  onSent(run: ExecutionRun): void;
  /** The run is over, and everybody has what they will get. */
  onOver(run: ExecutionRun): void;
};
