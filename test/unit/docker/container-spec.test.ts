import { describe, expect, test } from 'vitest';
import {
  type ContainerIdentity,
  containerSpec,
  drawContainerUid,
  FIRST_MAPPED_UID,
  MAPPED_UIDS,
  RESERVED_PIDS,
} from '../../../agent/backends/docker/container-spec.ts';
import type { EngineFacts } from '../../../agent/backends/docker/engine-facts.ts';
import { FIRST_SANDBOX_UID, SANDBOX_UIDS } from '../../../agent/backends/sandbox-uid.ts';
import { parseTemplate, type TemplateInput } from '../../../shared/template.ts';

const MIB = 1_048_576;
const FACTS: EngineFacts = {
  version: '20.10.24',
  apiVersion: '1.41',
  cpus: 4,
  hasSwapLimit: true,
  cgroupVersion: '2',
  hasMappedUids: false,
  limitsNotHeld: [],
};
const IDENTITY: ContainerIdentity = {
  installation: 'main',
  instance: 'an-instance',
  mark: 'boot/1/2/3',
  createdAtMs: 1_700_000_000_000,
  uid: 70_000,
  imageId: 'sha256:abc',
  imageVolumes: [],
};

type Spec = Record<string, unknown> & {
  HostConfig: Record<string, unknown> & { Tmpfs: Record<string, string> };
};

async function specOf(
  input: Partial<TemplateInput> = {},
  { identity = {}, facts = {} }: { identity?: Partial<ContainerIdentity>; facts?: Partial<EngineFacts> } = {},
): Promise<Spec> {
  const template = await parseTemplate({ name: 'default', image: 'python', ...input });
  return containerSpec(
    template,
    { ...IDENTITY, ...identity },
    { command: ['python3', '-c', 'loader'], facts: { ...FACTS, ...facts } },
  ) as Spec;
}

describe('the container of a sandbox', () => {
  test('runs the runner as PID 1, as a user of its own, with nothing of the image but its files', async () => {
    expect(await specOf()).toMatchObject({
      Image: 'sha256:abc',
      Entrypoint: ['python3', '-c', 'loader'],
      Cmd: [],
      User: '70000:70000',
      WorkingDir: '/workspace',
      Hostname: 'sandbox',
      Tty: false,
      OpenStdin: false,
      Healthcheck: { Test: ['NONE'] },
      HostConfig: { Init: false, RestartPolicy: { Name: 'no' } },
    });
  });

  test('has every privilege off, and no network', async () => {
    const { HostConfig } = await specOf();
    expect(HostConfig).toMatchObject({
      NetworkMode: 'none',
      Dns: ['127.0.0.1'],
      DnsSearch: ['.'],
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      Privileged: false,
      SecurityOpt: ['no-new-privileges'],
      IpcMode: 'private',
      CgroupnsMode: 'private',
    });
    const never = [
      'Binds',
      'Mounts',
      'Devices',
      'CapAdd',
      'PidMode',
      'UsernsMode',
      'GroupAdd',
      'VolumesFrom',
    ];
    expect(Object.keys(HostConfig).filter((name) => never.includes(name))).toEqual([]);
  });

  test('may take what its template says and no swap', async () => {
    const resources = { memory_mb: 512, workspace_mb: 32, tmp_mb: 16, cpus: 2.5, processes: 40 };
    const { HostConfig } = await specOf({ resources, docker: { base_memory_mb: 100, shm_mb: 8 } });
    const memory = (512 + 32 + 16 + 100 + 8) * MIB;
    expect(HostConfig).toMatchObject({
      Memory: memory,
      MemorySwap: memory,
      NanoCpus: 2_500_000_000,
      PidsLimit: 40 + RESERVED_PIDS,
      Ulimits: [{ Name: 'core', Soft: 0, Hard: 0 }],
    });
    expect(HostConfig).not.toHaveProperty('MemorySwappiness');
  });

  test('asks for no more processors than there are, which an engine refuses', async () => {
    const { HostConfig } = await specOf({ resources: { cpus: 8 } });
    expect(HostConfig.NanoCpus).toBe(4_000_000_000);
  });

  test('does not swap where the engine counts no swap', async () => {
    const v1 = await specOf({}, { facts: { hasSwapLimit: false, cgroupVersion: '1' } });
    expect(v1.HostConfig.MemorySwappiness).toBe(0);
    const v2 = await specOf({}, { facts: { hasSwapLimit: false } });
    expect(v2.HostConfig).not.toHaveProperty('MemorySwappiness');
  });

  test('can be written to in three places, each with a size and a number of files', async () => {
    const { HostConfig } = await specOf({
      resources: { workspace_mb: 8, tmp_mb: 2048 },
      docker: { shm_mb: 1 },
    });
    const own = 'mode=1777,uid=70000,gid=70000';
    expect(HostConfig.Tmpfs).toEqual({
      '/workspace': `rw,nosuid,nodev,exec,size=8m,nr_inodes=2048,${own}`,
      '/tmp': `rw,nosuid,nodev,exec,size=2048m,nr_inodes=262144,${own}`,
      '/dev/shm': `rw,nosuid,nodev,noexec,size=1m,nr_inodes=1024,${own}`,
      '/dev/mqueue': 'ro,nosuid,nodev,noexec,size=4k',
    });
  });

  test("hides the volumes that its image declares, and not the sandbox's own places", async () => {
    const { HostConfig } = await specOf({}, { identity: { imageVolumes: ['/data', '/tmp'] } });
    expect(HostConfig.Tmpfs['/data']).toMatch(/^ro,/);
    expect(HostConfig.Tmpfs['/tmp']).toMatch(/^rw,/);
  });

  test('leaves a log that ends', async () => {
    const { HostConfig } = await specOf();
    expect(HostConfig.LogConfig).toEqual({
      Type: 'json-file',
      Config: { 'max-size': '65536', 'max-file': '1' },
    });
  });

  test('is labelled with who made it, and from what', async () => {
    const template = await parseTemplate({ name: 'default', image: 'python' });
    expect((await specOf()).Labels).toEqual({
      'app.kubernetes.io/managed-by': 'podgate',
      'podgate.dev/installation': 'main',
      'podgate.dev/instance': 'an-instance',
      'podgate.dev/template': 'default',
      'podgate.dev/template-hash': template.hash,
      'podgate.dev/created-at-ms': '1700000000000',
      'podgate.dev/process': 'boot/1/2/3',
    });
  });

  test('has the runtime that its template names, else the engine’s own', async () => {
    expect((await specOf({ docker: { runtime: 'runsc' } })).HostConfig.Runtime).toBe('runsc');
    expect((await specOf()).HostConfig).not.toHaveProperty('Runtime');
  });
});

describe('the UID of a container', () => {
  test.for([
    ['is 65532 at the lowest', {}, false, 0, FIRST_SANDBOX_UID],
    ['is drawn from a billion', {}, false, 0.999_999_999_9, FIRST_SANDBOX_UID + SANDBOX_UIDS - 1],
    [
      'is below 65536 where only so many are mapped',
      {},
      true,
      0.999_999_999_9,
      FIRST_MAPPED_UID + MAPPED_UIDS - 1,
    ],
    ['is not one that images use where they are mapped', {}, true, 0, FIRST_MAPPED_UID],
    ['is the template’s where it names one', { uid: 1234 }, true, 0.5, 1234],
  ] as [string, Partial<TemplateInput>, boolean, number, number][])(
    '%s',
    async ([, input, hasMappedUids, random, uid]) => {
      const template = await parseTemplate({ name: 'default', ...input });
      expect(drawContainerUid(template, { hasMappedUids }, () => random)).toBe(uid);
    },
  );
});
