import { describe, expect, test } from 'vitest';
import { type EngineInfo, judgeEngine } from '../../../agent/backends/docker/engine-facts.ts';

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
