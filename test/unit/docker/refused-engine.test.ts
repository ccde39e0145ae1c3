import { expect, onTestFinished, test } from 'vitest';
import { createDockerCluster } from '../../../agent/backends/docker/docker-cluster.ts';
import { parseTemplate } from '../../../shared/template.ts';
import { says, strangeEngine } from '../../fakes/strange-engine.ts';
import { testClock } from '../../fakes/test-clock.ts';

/** What Docker 20.10 says of itself where an ordinary user runs it, and control groups are of version 1. */
const ROOTLESS = {
  NCPU: 2,
  OSType: 'linux',
  MemoryLimit: false,
  SwapLimit: false,
  PidsLimit: false,
  CpuCfsQuota: false,
  CgroupVersion: '1',
  DefaultRuntime: 'runc',
  SecurityOptions: ['name=seccomp,profile=default', 'name=rootless'],
};

function openCluster(host: string, unsafe = false) {
  const docker = { host, tlsVerify: false, certPath: undefined, sockets: [], installation: 'refused' };
  return createDockerCluster({
    config: { docker, unsafe },
    instance: 'one',
    clock: testClock,
    random: Math.random,
    log: () => {},
  });
}

test.for([
  [
    'holds no limits',
    ROOTLESS,
    /: The engine does not bound memory, the number of processes, processor time/,
  ],
  [
    'has no seccomp profile',
    { ...ROOTLESS, SecurityOptions: [] },
    /: The engine gives containers no seccomp/,
  ],
] as const)(
  'an engine that %s is isolation_failed to callers, and its owner learns why',
  async ([, info, why]) => {
    const host = `unix://${await strangeEngine(says(info))}`;
    const { backend, facts } = openCluster(host);
    onTestFinished(backend.close);
    const template = await parseTemplate({ name: 'default', image: 'any' });
    await expect(backend.create(template, AbortSignal.timeout(5_000))).rejects.toMatchObject({
      code: 'isolation_failed',
      detail: 'The cluster cannot keep what its templates promise.',
    });
    expect(facts().unavailable).toMatch(why);
    expect(facts().unavailable).toContain(host);
  },
);

test.for(['/info', '/containers/json'])(
  'an engine that says nothing when it is asked for %s does not hold an agent that ends',
  { timeout: 10_000 },
  async (silent) => {
    const asked = Promise.withResolvers<void>();
    const engine = await strangeEngine((response) => {
      if (response.req.url?.includes(silent)) asked.resolve();
      else says(ROOTLESS)(response);
    });
    const { backend } = openCluster(`unix://${engine}`, true);
    await asked.promise;
    await backend.close();
  },
);
