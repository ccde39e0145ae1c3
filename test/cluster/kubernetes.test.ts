import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { parse } from 'yaml';
import { REAL_KUBECONFIG } from '../contract/kubernetes-cluster.ts';
import { eventually } from '../fakes/eventually.ts';
import { type StreamedEnd, streamRun } from '../fakes/streamed-run.ts';
import { shell, smallTemplate } from './real-clusters.ts';
import { openServing, type Serving, say } from './serving.ts';

const EXECUTIONS = 200;
const POOL = 8;
const LONG_MS = 600_000;
const PRIORITY_QUOTA = new URL('../../manifests/sandbox/priority-quota.yaml', import.meta.url);
const {
  PODGATE_TEST_API_STOP: apiStop,
  PODGATE_TEST_API_START: apiStart,
  PODGATE_TEST_FILL: fill,
} = process.env;

vi.setConfig({ testTimeout: LONG_MS, hookTimeout: LONG_MS });

let serving: Serving;

/** Ends and codes, counted. */
function tally(ends: readonly StreamedEnd[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { event, body } of ends) {
    const name = event === 'result' ? body.outcome : `${event} ${body.code} started ${body.started ?? 'no'}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

function spread(ends: readonly StreamedEnd[]): string {
  const sorted = ends.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  const at = (share: number) => `${((sorted[Math.floor(sorted.length * share)] ?? 0) / 1000).toFixed(1)} s`;
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, longest ${at(0.9999)}`;
}

if (REAL_KUBECONFIG === undefined)
  test.skip('PODGATE_TEST_KUBECONFIG is not set: there are no real clusters to show it on', () => {});
else
  describe('on real clusters', () => {
    beforeAll(async () => {
      serving = await openServing();
    });
    afterEach(() => serving.rest());
    afterAll(() => serving?.[Symbol.asyncDispose]());

    test('one agent with two contexts runs one execution in each, by name', async (context) => {
      const [one, two] = serving.clusters.names;
      context.skip(two === undefined, 'PODGATE_TEST_KUBECONFIG has one context');
      await serving.start({
        contexts: serving.clusters.names,
        templates: [smallTemplate({ pool: { min: 1, max: 2 } })],
      });
      for (const name of [one, two] as string[]) {
        await serving.running(name, 1);
        const result = await serving.stack.run('import os; print(6 * 7, os.getuid() >= 65532)', {
          cluster: name,
          queue_timeout_ms: 30_000,
        });
        expect(result).toMatchObject({ cluster: name, outcome: 'exited', stdout: '42 True\n' });
        expect(await serving.listed(name)).toMatchObject({
          state: 'ready',
          kubernetes_version: expect.stringMatching(/^v1\./),
        });
      }
    });

    test('an API server that is killed costs no execution of the other cluster, and loses none without a code', async (context) => {
      const [hit = '', spared = ''] = serving.clusters.names;
      context.skip(spared === '', 'PODGATE_TEST_KUBECONFIG has one context');
      context.skip(!apiStop || !apiStart, 'PODGATE_TEST_API_STOP and PODGATE_TEST_API_START are not set');
      const agent = await serving.start({
        contexts: serving.clusters.names,
        templates: [smallTemplate({ pool: { min: POOL, max: POOL } })],
      });
      for (const name of serving.clusters.names) await serving.running(name, POOL);
      const ends: Record<string, StreamedEnd[]> = { [hit]: [], [spared]: [] };
      let done = 0;
      const halfway = Promise.withResolvers<void>();
      const run = async (cluster: string) => {
        const code = 'import time\nprint("begun", flush=True)\ntime.sleep(0.5)\nprint("ended")';
        const { last } = streamRun(serving.stack, {
          code,
          cluster,
          timeout_ms: 30_000,
          queue_timeout_ms: 300_000,
        });
        const end = await last;
        ends[cluster]?.push(end);
        done += 1;
        if (done === EXECUTIONS / 4) halfway.resolve();
      };
      const all = Promise.all(
        Array.from({ length: EXECUTIONS }, (_, index) => run(index % 2 === 0 ? hit : spared)),
      );
      await halfway.promise;
      const before = ends[hit]?.length ?? 0;
      await shell(apiStop as string);
      const downMs = Date.now();
      await new Promise((resolve) => setTimeout(resolve, 8_000));
      await shell(apiStart as string);
      const upMs = Date.now();
      await eventually(() =>
        serving.live(hit).then(
          () => true,
          () => false,
        ),
      );
      const answersMs = Date.now();
      await all;
      for (const name of [hit, spared])
        say(`${name}: ${JSON.stringify(tally(ends[name] ?? []))} ${spread(ends[name] ?? [])}`);
      const after = agent.log.filter(({ event, atMs }) => event === 'execution' && (atMs as number) > downMs);
      const firstOnHit = after.find(
        ({ cluster, atMs }) => cluster === hit && (atMs as number) > answersMs + 1,
      );
      say(
        `killed after ${before}, down ${upMs - downMs} ms, answers ${answersMs - upMs} ms after its start; first end there ${((firstOnHit?.atMs as number) ?? 0) - answersMs} ms later`,
      );
      expect(tally(ends[spared] ?? [])).toEqual({ exited: EXECUTIONS / 2 });
      expect(ends[hit]).toHaveLength(EXECUTIONS / 2);
      for (const { event, body, stdout } of ends[hit] ?? [])
        if (event === 'result')
          expect({ outcome: body.outcome, stdout }).toEqual({ outcome: 'exited', stdout: 'begun\nended\n' });
        else expect(body).toMatchObject({ code: expect.any(String) });
    });

    test('an agent that is killed amid executions leaves callers the truth, and no pod', async () => {
      const [name = ''] = serving.clusters.names;
      const wanted = { contexts: [name], templates: [smallTemplate({ pool: { min: POOL, max: POOL } })] };
      const first = await serving.start(wanted);
      await serving.running(name, POOL);
      const code = 'import time\nprint("begun", flush=True)\ntime.sleep(2)\nprint("ended")';
      const runs = Array.from({ length: 50 }, () =>
        streamRun(serving.stack, { code, cluster: name, timeout_ms: 30_000, queue_timeout_ms: 120_000 }),
      );
      await Promise.any(runs.slice(-30).map(({ begun }) => begun));
      const old = new Set((await serving.clusters.pods(name)).map(({ metadata }) => metadata?.uid));
      const killedMs = performance.now();
      await first.kill('SIGKILL');
      const second = await serving.start(wanted);
      const ends = await Promise.all(runs.map(({ last }) => last));
      say(`${JSON.stringify(tally(ends))} ${spread(ends)}`);
      for (const { event, body, stdout } of ends) {
        if (event === 'result') expect(stdout).toBe('begun\nended\n');
        else if (stdout !== '') expect(body).toMatchObject({ code: 'agent_lost', started: 'yes' });
        // What is refused with 503 never ran: `retryable` says so.
        else if (event === 'refused' && body.status === 503) expect(body.retryable).toBe(true);
        else expect(body).toMatchObject({ code: expect.any(String), started: expect.any(String) });
      }
      await eventually(
        async () => !(await serving.live(name)).some(({ metadata }) => old.has(metadata?.uid)),
      );
      say(`pods of the killed one gone after ${((performance.now() - killedMs) / 1000).toFixed(1)} s`);
      expect(performance.now() - killedMs).toBeLessThan(60_000);
      await second.kill('SIGTERM');
      await eventually(async () => (await serving.clusters.pods(name)).length === 0);
      expect(performance.now() - killedMs).toBeLessThan(120_000);
    });

    test('a namespace with a quota of 5 pods serves with five, and says quota_exceeded', async () => {
      const [name = ''] = serving.clusters.names;
      const kind = { apiVersion: 'v1', kind: 'ResourceQuota', metadata: { name: 'few' } };
      await serving.clusters.create(name, 'resourcequotas', { ...kind, spec: { hard: { pods: '5' } } });
      const agent = await serving.start({
        contexts: [name],
        templates: [smallTemplate({ pool: { min: 8, max: 8 } })],
      });
      const found = await eventually(async () =>
        (await serving.listed(name))?.templates.find((each) => each.trouble),
      );
      expect(found.trouble).toMatchObject({ code: 'quota_exceeded' });
      await serving.running(name, 5);
      // A pod that runs is not ready yet, and a template's first canary comes before its first caller.
      await eventually(async () =>
        (await serving.listed(name))?.templates.some(({ slots_free }) => slots_free > 0),
      );
      let most = 0;
      const counting = setInterval(async () => {
        // The server's quota forgets a pod that is being deleted once its grace is over.
        most = Math.max(most, (await serving.live(name)).length);
      }, 50);
      const ends = await Promise.all(
        Array.from(
          { length: 20 },
          () => streamRun(serving.stack, { code: 'print(1)', cluster: name, queue_timeout_ms: 60_000 }).last,
        ),
      );
      clearInterval(counting);
      say(`${JSON.stringify(tally(ends))} ${spread(ends)}; at most ${most} pods`);
      expect(tally(ends)).toEqual({ exited: 20 });
      expect(most).toBeLessThanOrEqual(5);
      expect(agent.log.filter(({ event }) => event === 'pool_trouble')).toHaveLength(1);
      await serving.clusters.remove(name, 'resourcequotas', 'few');
    });

    test('a pod that would push others off their nodes is refused, whoever makes it, and sandboxes are served', async () => {
      const [name = ''] = serving.clusters.names;
      const quota = parse(readFileSync(PRIORITY_QUOTA, 'utf8'));
      delete quota.metadata.namespace;
      await serving.clusters.create(name, 'resourcequotas', quota);
      const template = smallTemplate({ pool: { min: 1, max: 2 } });
      const pod = (priorityClassName: string) => ({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: priorityClassName },
        spec: {
          priorityClassName,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: 65_532,
            seccompProfile: { type: 'RuntimeDefault' },
          },
          containers: [
            {
              name: 'c',
              image: template.image,
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
            },
          ],
        },
      });
      for (const priority of ['system-node-critical', 'system-cluster-critical']) {
        // The server heeds a quota a moment after it was made.
        const refusal = await eventually(async () => {
          const made = serving.clusters.create(name, 'pods', pod(priority)).catch((error: unknown) => error);
          const error = await made;
          if (error === undefined) await serving.clusters.remove(name, 'pods', priority);
          return error;
        });
        expect(refusal).toMatchObject({
          words: expect.stringContaining(`exceeded quota: ${quota.metadata.name}`),
        });
      }
      await serving.start({ contexts: [name], templates: [template] });
      await serving.running(name, 1);
      expect(await serving.stack.run('print(1)', { cluster: name, queue_timeout_ms: 30_000 })).toMatchObject({
        stdout: '1\n',
      });
      await serving.clusters.remove(name, 'resourcequotas', quota.metadata.name);
    });

    test('a program that fills its container’s memory is told so, and the next one is served', async () => {
      const [name = ''] = serving.clusters.names;
      await serving.start({ contexts: [name], templates: [smallTemplate({ pool: { min: 2, max: 2 } })] });
      await serving.running(name, 2);
      // What no process has mapped: only the container's own limit sees it, and the kernel kills what it finds.
      const code = `
import os
print('begun', flush=True)
held = []
for _ in range(64):
    fd = os.memfd_create('m')
    held.append(fd)
    for _ in range(16): os.write(fd, bytes(1 << 20))
print('all of it')`;
      const { last } = streamRun(serving.stack, {
        code,
        cluster: name,
        timeout_ms: 30_000,
        queue_timeout_ms: 30_000,
      });
      const { event, body } = await last;
      expect({ event, outcome: body.outcome, exit_code: body.exit_code }).toEqual({
        event: 'result',
        outcome: 'memory_limit',
        exit_code: 137,
      });
      const next = await serving.stack.run('print(1)', { cluster: name, queue_timeout_ms: 60_000 });
      expect(next).toMatchObject({ outcome: 'exited', stdout: '1\n' });
    });

    test('a container that is killed whole for its memory is the outcome memory_limit', async (context) => {
      context.skip(!fill, 'PODGATE_TEST_FILL is not set');
      const [name = ''] = serving.clusters.names;
      await serving.start({ contexts: [name], templates: [smallTemplate({ pool: { min: 1, max: 1 } })] });
      await serving.running(name, 1);
      const code = 'import time\nprint("begun", flush=True)\ntime.sleep(60)';
      const run = streamRun(serving.stack, {
        code,
        cluster: name,
        timeout_ms: 60_000,
        queue_timeout_ms: 30_000,
      });
      await run.begun;
      // Those of the canary's round may be there as well: the one that stays runs the program.
      const pod = await eventually(async () => {
        const [one, ...others] = await serving.live(name);
        return others.length === 0 && one;
      });
      await shell(`${fill} ${pod.metadata?.uid}`);
      const { event, body } = await run.last;
      const ended = await eventually(async () => {
        const states = (await serving.clusters.pods(name)).map(
          ({ status }) => status?.containerStatuses?.[0]?.state,
        );
        return states.find((state) => state?.terminated) ?? true;
      });
      say(`the pod: ${JSON.stringify(ended)}; the caller: ${event} ${JSON.stringify(body)}`);
      expect({ event, outcome: body.outcome, exit_code: body.exit_code }).toEqual({
        event: 'result',
        outcome: 'memory_limit',
        exit_code: 137,
      });
      expect(body).toMatchObject({ stdout_truncated: true, stderr_truncated: true });
    });

    test('a template whose image does not exist says so, and has nothing free', async () => {
      const [name = ''] = serving.clusters.names;
      const missing = smallTemplate({
        name: 'missing',
        image: 'registry.invalid/none:1',
        pool: { min: 1, max: 1 },
      });
      const agent = await serving.start({
        contexts: [name],
        templates: [smallTemplate({ pool: { min: 1, max: 1 } }), missing],
      });
      const found = await eventually(async () =>
        (await serving.listed(name))?.templates.find((each) => each.name === 'missing' && each.trouble),
      );
      expect(found).toMatchObject({ slots_free: 0, slots_total: 1, trouble: { code: 'image_error' } });
      const response = await serving.stack.post('/v1/execute', {
        code: '1',
        cluster: name,
        template: 'missing',
      });
      expect(response.status).toBe(503);
      expect(await response.json()).toMatchObject({ code: 'image_error' });
      expect(
        (
          await serving.stack.run('print(1)', {
            cluster: name,
            template: 'default',
            queue_timeout_ms: 30_000,
          })
        ).stdout,
      ).toBe('1\n');
      expect(
        agent.log.filter(({ event, template }) => event === 'pool_trouble' && template === 'missing'),
      ).toHaveLength(1);
    });
  });
