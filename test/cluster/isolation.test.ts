import { once } from 'node:events';
import { createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { IsolationFinding } from '../../client/types.ts';
import { REAL_KUBECONFIG } from '../contract/kubernetes-cluster.ts';
import { eventually } from '../fakes/eventually.ts';
import { type Stack, startStack } from '../fakes/stack.ts';
import {
  type AgentProcess,
  openRealClusters,
  type RealClusters,
  smallTemplate,
  startAgentProcess,
} from './real-clusters.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

/** Pods of two templates and of their canaries, on a node that has other things to do. */
const SLOW_START_MS = 120_000;
const KINDS = ['dns', 'api', 'metadata', 'node', 'internet'];
/** This very machine, as pods see it: the only target. */
const HOST = Object.values(networkInterfaces())
  .flat()
  .find((each) => each?.family === 'IPv4' && !each.internal)?.address;

if (REAL_KUBECONFIG === undefined || HOST === undefined)
  test.skip('PODGATE_TEST_KUBECONFIG is not set: there is no cluster whose isolation could be tried', () => {});
else
  describe('the isolation of a real cluster', () => {
    let clusters: RealClusters;
    let stack: Stack;
    const agents: AgentProcess[] = [];
    beforeAll(async () => {
      clusters = await openRealClusters();
      stack = await startStack({ agents: [] });
    });
    afterAll(async () => {
      await Promise.all(agents.map((agent) => agent.kill('SIGTERM')));
      await stack?.[Symbol.asyncDispose]();
      await clusters?.[Symbol.asyncDispose]();
    });

    const start = async (environment: Record<string, string>) => {
      const { names, namespace } = clusters;
      const small = smallTemplate({ pool: { min: 1, max: 2 } });
      const strict = { ...small, name: 'strict', require: ['seccomp', 'network_policy'] as const };
      const templates = [small, { ...strict, require: [...strict.require] }];
      const contexts = [names[0] as string];
      const agent = await startAgentProcess({ stack, namespace, contexts, templates, environment });
      agents.push(agent);
      return agent;
    };
    const template = async (name: string) =>
      (await stack.podgate.clusters.list()).clusters
        .find((each) => each.name === clusters.names[0])
        ?.templates.find((each) => each.name === name);

    test('is reported as it is: what a policy says is believed only where packets stay away', async () => {
      const [cluster = ''] = clusters.names;
      let connections = 0;
      const server = createServer((socket) => {
        connections += 1;
        socket.on('error', () => {}).destroy();
      });
      server.listen(0, '0.0.0.0');
      await once(server, 'listening');
      const { port } = server.address() as { port: number };
      await clusters.client(cluster).call({
        method: 'POST',
        path: `/apis/networking.k8s.io/v1/namespaces/${clusters.namespace}/networkpolicies`,
        body: {
          apiVersion: 'networking.k8s.io/v1',
          kind: 'NetworkPolicy',
          metadata: { name: 'deny-all' },
          spec: { podSelector: {}, policyTypes: ['Ingress', 'Egress'] },
        },
      });
      const targets = KINDS.map((kind) => `${kind}=${HOST}:${port}`).join(',');
      const agent = await start({ PODGATE_CANARY_TARGETS: targets });
      const { findings } = await eventually(async () => {
        const isolation = (await template('default'))?.isolation;
        return isolation?.findings.some(({ name }) => name === 'policy.sandbox') && isolation;
      }, SLOW_START_MS);
      await eventually(async () => (await template('strict'))?.isolation, SLOW_START_MS);
      server.close();
      for (const each of findings)
        process.stderr.write(`${each.name.padEnd(24)} ${each.state.padEnd(8)} ${each.detail}\n`);
      const states = (which: (name: string) => boolean) =>
        Object.fromEntries(
          findings.filter(({ name }) => which(name)).map(({ name, state }) => [name, state]),
        );
      const each = (group: string, state: IsolationFinding['state']) =>
        Object.fromEntries([...KINDS, 'sandbox'].map((kind) => [`${group}.${kind}`, state]));
      // What the sandbox and the runner's filter hold is the same on every cluster.
      expect(states((name) => !name.startsWith('policy.'))).toEqual({
        ...each('network', 'holds'),
        'network.sockets': 'holds',
        'sandbox.shared': 'holds',
        'files.write': 'holds',
        'files.token': 'holds',
        environment: 'holds',
        'privilege.user': 'holds',
        'privilege.capabilities': 'holds',
        'privilege.setuid': 'holds',
        'privilege.no_new_privs': 'holds',
        'privilege.seccomp': 'holds',
      });
      // This machine saw the packets, or it did not.
      const enforced = connections === 0;
      expect(states((name) => name.startsWith('policy.'))).toEqual(
        each('policy', enforced ? 'holds' : 'broken'),
      );
      process.stderr.write(`${cluster}: ${connections} connections came; policy enforced: ${enforced}\n`);
      expect((await stack.run('print(1)', { cluster, queue_timeout_ms: 30_000 })).stdout).toBe('1\n');
      const strict = await stack.post('/v1/execute', {
        code: 'print(1)',
        cluster,
        template: 'strict',
        queue_timeout_ms: 30_000,
      });
      if (enforced) expect(strict.status).toBe(200);
      else {
        expect(strict.status).toBe(503);
        expect(await strict.json()).toMatchObject({
          code: 'isolation_failed',
          detail: expect.stringContaining("The isolation that template 'strict' promises does not hold here"),
        });
      }
      expect(agent.log.filter(({ event }) => event === 'canary_failed')).toEqual([]);
    });
  });
