import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { readAgentConfig } from '../../agent/config.ts';
import { startConfiguredAgent } from '../../agent/run-agent.ts';
import { eventually } from '../fakes/eventually.ts';
import { type Entry, type Stack, startStack } from '../fakes/stack.ts';
import { streamRun } from '../fakes/streamed-run.ts';
import { AGENT_RULES, type Rule, type TestCluster } from './kubernetes-cluster.ts';

const SLOW_MS = 120_000;
const LEASE_TIMES = { leaseSeconds: 5, renewMs: 500, reapMs: 500, slackMs: 1_000 };
const LEASES = 'leases (coordination.k8s.io)';

vi.setConfig({ testTimeout: SLOW_MS, hookTimeout: SLOW_MS });

/** The manifest's rules but for one verb on one resource. */
function without(verb: string, resource: string): Rule[] {
  return AGENT_RULES.map((rule) =>
    rule.resources.includes(resource) ? { ...rule, verbs: rule.verbs.filter((each) => each !== verb) } : rule,
  );
}

/** What an agent says whose Role lacks one verb, whether the cluster is real. */
export function describeRights(name: string, open: () => Promise<TestCluster>): void {
  describe(`${name}: a Role with one verb removed`, () => {
    let stack: Stack;
    let cluster: TestCluster;
    beforeAll(async () => {
      stack = await startStack({ agents: [] });
      cluster = await open();
    });
    afterAll(async () => {
      await cluster?.[Symbol.asyncDispose]();
      await stack?.[Symbol.asyncDispose]();
    });

    async function start(served: string, kubeconfig: string): Promise<Entry[]> {
      const { name, image, resources, kubernetes } = await cluster.template();
      const template = { name, image, resources, kubernetes, pool: { min: 1, max: 2 } };
      const file = join(stack.dir, `${served}.yaml`);
      writeFileSync(file, JSON.stringify({ templates: [template] }));
      const log: Entry[] = [];
      const environment = {
        PATH: process.env.PATH ?? '',
        EXECUTOR_BACKEND: 'kubernetes',
        KUBECONFIG: kubeconfig,
        KUBE_CONTEXTS: `${served}=limited`,
        KUBERNETES_NAMESPACE: cluster.namespace,
        PODGATE_TEMPLATES: file,
        PODGATE_GATEWAY_URL: stack.url,
        PODGATE_AGENT_TOKEN: await stack.agentToken(served),
        PODGATE_AGENT_PORT: '0',
        PODGATE_CANARY: 'off',
        // Agents of other tests leave each other's pods alone.
        PODGATE_INSTALLATION: served,
      };
      const agent = await startConfiguredAgent({
        config: readAgentConfig({ environment }),
        software: 'podgate/test',
        leaseTimes: LEASE_TIMES,
        log: (event, fields) => void log.push({ of: 'agent', event, ...fields }),
      });
      onTestFinished(() => agent.close());
      return log;
    }

    const listed = async (served: string) =>
      (await stack.podgate.clusters.list()).clusters.find((each) => each.name === served);

    test.for([
      ['create', 'pods', 'create pods', 'unavailable'],
      ['list', 'pods', 'list pods', 'unavailable'],
      ['watch', 'pods', 'watch pods', 'unavailable'],
      ['delete', 'pods', 'delete pods', 'degraded'],
      ['get', 'pods/exec', 'get pods/exec', 'unavailable'],
      ['create', 'leases', `create ${LEASES}`, 'unavailable'],
      ['list', 'leases', `list ${LEASES}`, 'degraded'],
      ['update', 'leases', `update ${LEASES}`, 'degraded'],
    ] as const)(
      '%s %s is named with its namespace, and serves once it is added',
      async ([verb, resource, what, state]) => {
        const served = `${verb}-${resource.replace('/', '-')}`;
        const { kubeconfig, grant } = await cluster.limited(without(verb, resource));
        const log = await start(served, kubeconfig);
        const sentence = `The agent may not ${what} in namespace ${cluster.namespace}: its Role lacks that rule.`;
        if (verb === 'delete') {
          await eventually(async () => (await listed(served))?.templates.some((each) => each.slots_free > 0));
          // One pod is used up: it cannot go, and no other is made that could not either.
          const { last } = streamRun(stack, { code: 'print(1)', cluster: served, queue_timeout_ms: 60_000 });
          expect(await last).toMatchObject({ event: 'result', stdout: '1\n' });
        }
        const found = await eventually(async () => {
          const one = await listed(served);
          // What its missing right leaves of it shows a moment after the right is missed.
          const isSettled = state === 'degraded' || one?.state === state;
          return isSettled && one?.detail?.includes(what) && one;
        });
        expect(found.detail).toContain(sentence);
        process.stderr.write(`${name}: ${found.state}: ${found.detail}\n`);
        expect(['degraded', 'unavailable']).toContain(found.state);
        const said = log.filter(({ event }) => event === 'right_missing');
        expect(said.map(({ detail }) => detail)).toEqual([sentence]);
        if (verb === 'delete') return;
        await grant(AGENT_RULES);
        await eventually(async () => (await listed(served))?.detail === null);
        const { last } = streamRun(stack, { code: 'print(2)', cluster: served, queue_timeout_ms: 60_000 });
        expect(await last).toMatchObject({ event: 'result', stdout: '2\n' });
      },
    );

    test('a token that is taken away is said, and its successor in the file needs no restart', async () => {
      const served = 'expiring';
      const { kubeconfig, expire, renew } = await cluster.limited(AGENT_RULES);
      await start(served, kubeconfig);
      const template = async () => (await listed(served))?.templates[0];
      const run = (code: string, queue_timeout_ms = 60_000) =>
        streamRun(stack, { code, cluster: served, queue_timeout_ms }).last;
      await eventually(async () => (await template())?.slots_free);
      expect(await run('print(1)')).toMatchObject({ event: 'result', stdout: '1\n' });
      await expire();
      // A server believes in a token that it has seen for some seconds more: what it lets through is used up.
      const { trouble } = await eventually(async () => {
        const now = await template();
        // What is free may be one that could be made, and cannot any more.
        if (now?.slots_free) await run('print(1)', 1_000);
        return now?.trouble ? now : false;
      });
      expect(trouble).toEqual({
        code: 'backend_unavailable',
        detail: "The cluster does not accept the agent's credentials.",
      });
      await renew();
      await eventually(async () => (await run('print(2)')).stdout === '2\n');
      await eventually(async () => (await template())?.trouble === null);
    });
  });
}
