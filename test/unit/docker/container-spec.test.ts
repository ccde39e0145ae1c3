import { describe, expect, test } from 'vitest';
import {
  type ContainerIdentity,
  containerSpec,
  drawContainerUid,
  FIRST_MAPPED_UID,
  imageToRun,
  MAPPED_UIDS,
  RESERVED_PIDS,
  RUNNER_FILES,
  SHARED_UID_PROCESSES,
} from '../../../agent/backends/docker/container-spec.ts';
import type { EngineFacts } from '../../../agent/backends/docker/engine-facts.ts';
import { FIRST_SANDBOX_UID, SANDBOX_UIDS } from '../../../agent/backends/sandbox-uid.ts';
import { parseTemplate, type TemplateInput } from '../../../shared/template.ts';

const MIB = 1_048_576;
const COVERED = 'ro,nosuid,nodev,noexec,size=4k';
const FACTS: EngineFacts = {
  version: '20.10.24',
  apiVersion: '1.41',
  product: 'docker',
  cpus: 4,
  hasSwapLimit: true,
  cgroupVersion: '2',
  defaultRuntime: 'runc',
  hasMappedUids: false,
  limitsNotHeld: [],
};
const limit = (Name: string, most: number) => ({ Name, Soft: most, Hard: most });
const FIXED_LIMITS = [
  limit('core', 1),
  ...['cpu', 'data', 'fsize'].map((name) => limit(name, -1)),
  { Name: 'stack', Soft: 8_388_608, Hard: -1 },
];
const IDENTITY: ContainerIdentity = {
  name: 'podgate-default-abc',
  installation: 'main',
  instance: 'an-instance',
  mark: 'boot/1/2/3',
  createdAtMs: 1_700_000_000_000,
  uid: 70_000,
  image: { id: 'sha256:abc', volumes: [], hasCheck: false },
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
      Ulimits: [...FIXED_LIMITS, limit('nofile', RUNNER_FILES), limit('nproc', 40 + RESERVED_PIDS)],
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
    const own = (files: number) => `mode=1777,nr_inodes=${files},uid=70000,gid=70000`;
    expect(HostConfig.Tmpfs).toEqual({
      '/workspace': `rw,nosuid,nodev,exec,size=8m,${own(2048)}`,
      '/tmp': `rw,nosuid,nodev,exec,size=2048m,${own(262_144)}`,
      '/dev/shm': `rw,nosuid,nodev,noexec,size=1m,${own(1024)}`,
      '/dev/mqueue': 'ro,nosuid,nodev,noexec,size=4k',
    });
  });

  test('is, on Podman, bounded in what Podman can bound, and covers what that opens by itself', async () => {
    const facts = { product: 'podman' } as const;
    const input = { resources: { workspace_mb: 8 }, docker: { shm_mb: 1 } };
    const { HostConfig } = await specOf(input, { facts });
    expect(HostConfig.Tmpfs).toEqual({
      '/workspace': 'rw,nosuid,nodev,exec,size=8m,mode=1777,U',
      '/tmp': 'rw,nosuid,nodev,exec,size=64m,mode=1777,U',
      '/dev/shm': 'rw,nosuid,nodev,noexec,size=1m,mode=1777,U',
      ...Object.fromEntries(['/run', '/var/tmp', '/dev/mqueue'].map((path) => [path, COVERED])),
    });
  });

  test('may have the files that its template says, and the processes of all with its UID', async () => {
    const { HostConfig } = await specOf({ resources: { processes: 40, open_files: 5_000 } });
    expect(HostConfig.Ulimits).toEqual([
      ...FIXED_LIMITS,
      limit('nofile', 5_000),
      limit('nproc', 40 + RESERVED_PIDS),
    ]);
    // Containers of one UID count together.
    const shared = await specOf({ uid: 1234, resources: { open_files: 16 } });
    expect(shared.HostConfig.Ulimits).toEqual([
      ...FIXED_LIMITS,
      limit('nofile', RUNNER_FILES),
      limit('nproc', SHARED_UID_PROCESSES),
    ]);
  });

  test("hides the volumes that its image declares, and not the sandbox's own places", async () => {
    const { HostConfig } = await specOf(
      {},
      { identity: { image: { ...IDENTITY.image, volumes: ['/data/', '/tmp', '/workspace/'] } } },
    );
    expect(HostConfig.Tmpfs['/data']).toMatch(/^ro,/);
    expect(HostConfig.Tmpfs['/tmp']).toMatch(/^rw,/);
  });

  test('leaves a log that ends', async () => {
    const { HostConfig } = await specOf();
    expect(HostConfig.LogConfig).toEqual({
      Type: 'json-file',
      Config: { 'max-size': '65536', 'max-file': '1', compress: 'false' },
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
      'podgate.dev/sandbox': 'podgate-default-abc',
    });
  });

  test('has the runtime that its template names, else the engine’s own', async () => {
    expect((await specOf({ docker: { runtime: 'runsc' } })).HostConfig.Runtime).toBe('runsc');
    expect((await specOf()).HostConfig).not.toHaveProperty('Runtime');
  });
});

describe('a template', () => {
  const templateOf = (input: Partial<TemplateInput>) =>
    parseTemplate({ name: 'default', image: 'python', ...input });

  test('is run from its image, with the runtime that it names where containers may have one', async () => {
    const template = await templateOf({ docker: { runtime: 'runsc' } });
    expect(imageToRun(template, FACTS)).toBe('python');
    expect(imageToRun(template, { product: 'podman', defaultRuntime: 'runsc' })).toBe('python');
  });

  test.for([
    ['no image', { image: undefined }, 'image_error'],
    ['a network', { network: 'cluster' }, 'policy_denied'],
    ['a runtime that would be passed over in silence', { docker: { runtime: 'runsc' } }, 'isolation_failed'],
  ] as [string, Partial<TemplateInput>, string][])('with %s is refused', async ([, input, code]) => {
    const template = await templateOf(input);
    expect(() => imageToRun(template, { product: 'podman', defaultRuntime: 'crun' })).toThrow(
      expect.objectContaining({ code }),
    );
  });

  test('of an image with a check of its own has none beside the runner', async () => {
    const image = { ...IDENTITY.image, hasCheck: true };
    expect((await specOf({}, { identity: { image } })).Healthcheck).toEqual({ Test: ['NONE'] });
    expect(await specOf()).not.toHaveProperty('Healthcheck');
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
