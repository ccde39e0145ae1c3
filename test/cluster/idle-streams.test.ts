import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { EXEC_PROTOCOLS } from '../../agent/backends/kubernetes/exec-protocol.ts';
import type { ExecStream } from '../../agent/backends/kubernetes/exec-stream.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import { openRealCluster, REAL_KUBECONFIG, type TestCluster } from '../contract/kubernetes-cluster.ts';
import { runOn } from '../fakes/runner-run.ts';

/** Longer than a proxy's usual minute, and twice a kubelet's `streamingConnectionIdleTimeout` of 30 s. */
const IDLE_MS = 75_000;
const soon = () => AbortSignal.timeout(60_000);

vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

if (REAL_KUBECONFIG === undefined)
  test.skip('PODGATE_TEST_KUBECONFIG is not set: there is no kubelet to have a limit', () => {});
else
  describe('a stream on which nothing is said for 75 s', () => {
    let cluster: TestCluster;
    beforeAll(async () => {
      cluster = await openRealCluster();
    });
    afterAll(() => cluster?.[Symbol.asyncDispose]());

    test.for(EXEC_PROTOCOLS)('is still the same stream with %s', async (protocol) => {
      const backend = await cluster.backend({
        installation: protocol.slice(0, 2),
        execProtocols: [protocol],
      });
      const sandbox = await backend.create(await cluster.template(), soon());
      const stream = (await backend.connect(sandbox, soon())) as ExecStream;
      expect(protocol.startsWith(stream.protocol)).toBe(true);
      const runner = createRunnerClient({ stream, epoch: 1 });
      await runner.ready;
      await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
      expect(stream.destroyed).toBe(false);
      expect((await runOn(runner, 1, 'print(1)', {})).stdout).toBe('1\n');
      await backend.close();
    });
  });
