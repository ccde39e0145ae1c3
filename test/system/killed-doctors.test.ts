import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadKubeContexts } from '../../agent/backends/kubernetes/kube-config.ts';
import type { Clock } from '../../agent/clock.ts';
import type { Check } from '../../agent/doctor/check.ts';
import { examine } from '../../agent/doctor/doctor.ts';
import { doctorInstance, lookForDoctors } from '../../agent/doctor/killed-doctors.ts';
import { AGENT_RULES, openFakeCluster, type TestCluster } from '../contract/kubernetes-cluster.ts';
import { eventually } from '../fakes/eventually.ts';
import { testClock } from '../fakes/test-clock.ts';

const HOUR_MS = 3_600_000;
const { signal } = new AbortController();

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await openFakeCluster();
});
afterAll(() => cluster?.[Symbol.asyncDispose]());

/** Holds a Lease that it does not renew, and a pod. */
async function leave(installation: string, instance = installation): Promise<string> {
  const backend = await cluster.backend({ installation, instance, renewMs: HOUR_MS, reapMs: HOUR_MS });
  await backend.create(await cluster.template(), signal);
  return instance;
}

const holders = (kind: string) =>
  cluster.fake
    ?.store(kind)
    .list(cluster.namespace)
    .map(({ metadata }) => metadata.labels?.['podgate.dev/instance']);

async function all(checks: AsyncGenerator<Check>): Promise<Check[]> {
  const said: Check[] = [];
  for await (const check of checks) said.push(check);
  return said;
}

test('what killed doctors left is removed by the next: of one that lives nothing, nor of any agent', async () => {
  const killed = await leave(doctorInstance());
  const alive = await leave(doctorInstance());
  const agents = [await leave('doctor-house'), await leave(doctorInstance(), 'agent')];
  const waits: number[] = [];
  const leases = cluster.fake?.store('leases');
  const renew = () => {
    const held = leases?.list(cluster.namespace).find(({ spec }) => spec.holderIdentity === alive);
    if (held) leases?.put({ ...held, spec: { ...held.spec, renewTime: new Date().toISOString() } });
  };
  const clock: Clock = {
    ...testClock,
    now: () => 0,
    after(waitMs, run) {
      waits.push(waitMs);
      renew();
      return testClock.after(0, run);
    },
  };
  const removeKilled = await lookForDoctors({ ...cluster, clock, signal });
  const said = await all(removeKilled());
  // A renewal that comes at the last moment is a sign of life.
  expect(waits).toEqual([20_000]);
  expect(said).toEqual([
    { name: 'killed doctors', state: 'ok', detail: 'what 1 of them had left is removed' },
  ]);
  for (const kind of ['leases', 'pods'])
    await eventually(async () => {
      const left = holders(kind) ?? [];
      return !left.includes(killed) && [alive, ...agents].every((each) => left.includes(each));
    });

  // Seen again by one that has nothing to wait for: the living one has renewed meanwhile.
  const removeNone = await lookForDoctors({ ...cluster, clock, signal });
  renew();
  expect(await all(removeNone())).toEqual([]);
  expect(waits).toHaveLength(1);
  expect(holders('leases')).toHaveLength(3);
});

test('an examination removes them at its end, with the rights that the manifest gives', async () => {
  const killed = await leave(doctorInstance());
  const { kubeconfig } = await cluster.limited(AGENT_RULES);
  const contexts = await loadKubeContexts(kubeconfig);
  const checks = examine({
    access: () => contexts.access('limited'),
    namespace: cluster.namespace,
    templates: [],
    targets: {},
    instance: doctorInstance(),
    clock: { ...testClock, after: (waitMs, run) => testClock.after(Math.min(waitMs, 200), run) },
    random: Math.random,
    log: () => {},
    signal,
  });
  expect((await all(checks)).map(({ name }) => name)).toContain('killed doctors');
  expect(holders('leases')).not.toContain(killed);
});
