import { openRunnerStream } from '../runner-stream.ts';
import type { ExecStream } from './exec-stream.ts';
import type { KubeClient } from './kube-client.ts';
import { isRefused, KubeRefusal } from './kube-failure.ts';
import { EXEC_VERBS, type ExecOptions, openExec } from './open-exec.ts';
import { CONTAINER } from './pod-spec.ts';

export type PodExecsDeps = {
  client: KubeClient;
  namespace: string;
  /** Exec protocols to offer; both unless given. */
  execProtocols?: readonly string[];
};

/** Streams to the runners of pods. */
export type PodExecs = {
  /** How many were asked for so far. */
  readonly calls: number;
  open(pod: string, python: string, signal: AbortSignal): Promise<ExecStream>;
};

export function createPodExecs({ client, namespace, execProtocols: protocols }: PodExecsDeps): PodExecs {
  let calls = 0;

  /** Refused before anything was done: with another credential it may be asked for again, as a plain call is. */
  async function openTwice(options: ExecOptions): Promise<ExecStream> {
    calls += 1;
    try {
      return await openExec(options);
    } catch (cause) {
      if (!isRefused(cause, 401) || !(await client.access.refused())) throw cause;
      calls += 1;
      return openExec(options);
    }
  }

  /** What the answer says of the agent's right to execs is kept. */
  async function openKnown(options: ExecOptions): Promise<ExecStream> {
    try {
      const stream = await openTwice(options);
      for (const verb of EXEC_VERBS)
        client.rights?.allowed({ verb, group: '', resource: 'pods/exec', namespace });
      return stream;
    } catch (cause) {
      if (cause instanceof KubeRefusal && cause.right) client.rights?.refused(cause.right);
      throw cause;
    }
  }

  return {
    get calls() {
      return calls;
    },
    open(pod, python, signal) {
      const place = { access: client.access, namespace, pod, container: CONTAINER };
      return openRunnerStream({
        python,
        signal,
        open: ({ onEnd, ...exec }) =>
          openKnown({
            ...place,
            ...(protocols && { protocols }),
            ...exec,
            onStatus: ({ words }) => onEnd(words),
          }),
      });
    },
  };
}
