import { describe, expect, onTestFinished, test } from 'vitest';
import { createEngineClient } from '../../../agent/backends/docker/engine-client.ts';
import {
  type EngineFacts,
  type EngineInfo,
  judgeEngine,
  readEngineFacts,
} from '../../../agent/backends/docker/engine-facts.ts';
import { says, strangeEngine } from '../../fakes/strange-engine.ts';

const INFO: EngineInfo = {
  NCPU: 2,
  OSType: 'linux',
  MemoryLimit: true,
  SwapLimit: true,
  PidsLimit: true,
  CpuCfsQuota: true,
  CgroupVersion: '2',
  DefaultRuntime: 'runc',
  SecurityOptions: ['name=apparmor', 'name=seccomp,profile=builtin', 'name=cgroupns'],
};

function refusal(info: Partial<EngineInfo>, isUnsafe = false): unknown {
  try {
    return judgeEngine({ ...INFO, ...info }, isUnsafe);
  } catch (failure) {
    return failure;
  }
}

describe('an engine', () => {
  test('that holds every limit is used', () => {
    expect(judgeEngine(INFO, false)).toEqual({
      cpus: 2,
      hasSwapLimit: true,
      cgroupVersion: '2',
      defaultRuntime: 'runc',
      hasMappedUids: false,
      limitsNotHeld: [],
    });
  });

  test.for([
    ['name=rootless', true],
    ['name=userns', true],
    ['name=selinux', false],
  ] as [string, boolean][])('with %s has mapped UIDs: %s', ([option, hasMappedUids]) => {
    const SecurityOptions = ['name=seccomp,profile=default', option];
    expect(judgeEngine({ ...INFO, SecurityOptions }, false)).toMatchObject({ hasMappedUids });
  });

  test.for(['MemoryLimit', 'PidsLimit', 'CpuCfsQuota'] as const)(
    'that does not hold %s is refused unless told',
    (name) => {
      for (const value of [false, undefined]) {
        expect(refusal({ [name]: value } as Partial<EngineInfo>)).toMatchObject({
          code: 'isolation_failed',
          detail: expect.stringMatching(/does not bound .*PODGATE_UNSAFE=true/),
        });
        expect(refusal({ [name]: value } as Partial<EngineInfo>, true)).toMatchObject({
          limitsNotHeld: [expect.any(String)],
        });
      }
    },
  );

  test.for([
    ['Docker', { SecurityOptions: ['name=seccomp,profile=builtin', 'name=rootless'] }],
    ['Podman, which says that it holds them', { Rootless: true }],
  ] as [string, Partial<EngineInfo>][])(
    'without root bounds nothing where control groups are of version 1: %s',
    ([, info]) => {
      const limitsNotHeld = ['memory', 'the number of processes', 'processor time'];
      expect(refusal({ ...info, CgroupVersion: '1' })).toMatchObject({ code: 'isolation_failed' });
      expect(refusal({ ...info, CgroupVersion: '1' }, true)).toMatchObject({ limitsNotHeld });
      expect(refusal(info)).toMatchObject({ limitsNotHeld: [], hasMappedUids: true });
    },
  );

  test.for([[['name=seccomp,profile=unconfined']], [['name=apparmor']], [[]], [null]] as [string[] | null][])(
    'with the security options %j is refused, whatever it is told',
    ([SecurityOptions]) => {
      expect(refusal({ SecurityOptions }, true)).toMatchObject({ code: 'isolation_failed' });
    },
  );

  test('for Windows is refused', () => {
    expect(refusal({ OSType: 'windows' })).toMatchObject({ code: 'backend_unavailable' });
  });
});

/** What Podman 4.3 says of itself where an ordinary user runs it, and control groups are of version 2. */
const PODMAN: EngineInfo = { ...INFO, SwapLimit: false, CpuCfsQuota: false, Rootless: true };

async function factsOfPodman(info: EngineInfo, own: unknown): Promise<EngineFacts> {
  const socket = await strangeEngine(
    (response) => says(response.req.url?.endsWith('/libpod/info') ? own : info)(response),
    { ApiVersion: '1.41', MinAPIVersion: '1.24', Version: '4.3.1', Components: [{ Name: 'Podman Engine' }] },
  );
  const client = createEngineClient({ kind: 'socket', shown: socket, path: () => socket });
  onTestFinished(client.close);
  return readEngineFacts(client, { isUnsafe: false, signal: AbortSignal.timeout(5_000) });
}

describe('Podman', () => {
  const FILES = 'the number of files but by memory';
  const host = (...cgroupControllers: string[]) => ({ host: { cgroupControllers } });

  test.for([
    ['cpu', 'memory', 'pids'],
    ['cpuset', 'cpu', 'cpuacct', 'blkio', 'memory', 'devices', 'freezer', 'pids'],
  ])('is believed about its control groups where it names them: %s', async (controllers) => {
    expect(await factsOfPodman(PODMAN, host(...controllers))).toMatchObject({
      product: 'podman',
      hasMappedUids: true,
      limitsNotHeld: [FILES],
    });
  });

  test.for([
    ['memory and pids', host('memory', 'pids'), 'The engine does not bound processor time of containers'],
    ['pids', host('pids'), 'The engine does not bound memory, processor time of containers'],
    ['cpuset and cpuacct', host('cpuset', 'cpuacct'), 'The engine does not bound memory, the number of'],
    ['none', host(), 'The engine does not bound memory, the number of processes, processor time of'],
    ['null', { host: { cgroupControllers: null } }, 'The engine does not bound memory, the number of'],
  ] as const)(
    'with the control groups %s is refused, whatever it says in terms of Docker',
    async ([, own, words]) => {
      await expect(factsOfPodman({ ...PODMAN, CpuCfsQuota: true }, own)).rejects.toMatchObject({
        code: 'isolation_failed',
        detail: expect.stringContaining(words),
      });
    },
  );

  test('that does not say what control groups it has is not used', async () => {
    await expect(factsOfPodman(PODMAN, {})).rejects.toMatchObject({ code: 'backend_unavailable' });
  });

  test('is refused with control groups of version 1 and without root, whatever it names', async () => {
    const info = { ...PODMAN, CgroupVersion: '1' };
    await expect(factsOfPodman(info, host('cpu', 'memory', 'pids'))).rejects.toMatchObject({
      code: 'isolation_failed',
    });
  });
});
