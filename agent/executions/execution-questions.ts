import type { FromAgent, FromGateway } from '../../shared/messages.ts';
import { SIGNALS } from '../../shared/signals.ts';
import type { KeyClaims } from './key-claims.ts';
import type { LiveExecutions } from './live-executions.ts';
import type { Registry } from './registry.ts';

/** What is asked about executions by their ids, over any link, and answered at once. */
export type ExecutionQuestions = {
  status(request: FromGateway['STATUS']): FromAgent['STATUS'];
  claim(request: FromGateway['CLAIM']): FromAgent['CLAIM'];
  signal(request: FromGateway['SIGNAL']): FromAgent['SIGNAL'];
};

export function createExecutionQuestions(
  registry: Registry,
  claims: KeyClaims,
  running: LiveExecutions,
): ExecutionQuestions {
  return {
    status({ ref, execution_id, refuse_if_unknown }) {
      return { ref, execution_id, ...registry.status(execution_id, refuse_if_unknown) };
    },
    claim(ask) {
      const { execution_id, digest } = claims.claim(ask) ?? { execution_id: null, digest: null };
      const state = execution_id === null ? 'unknown' : registry.status(execution_id, false).state;
      return { ref: ask.ref, execution_id, digest, state };
    },
    signal({ ref, execution_id, signal }) {
      const live = running.get(execution_id);
      if (live) return { ref, state: live.execution.signal(SIGNALS[signal]) };
      return { ref, state: registry.get(execution_id) ? 'over' : 'unknown' };
    },
  };
}
