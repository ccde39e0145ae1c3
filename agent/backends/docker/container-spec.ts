import { mbToBytes, type Template } from '../../../shared/template.ts';
import { LABEL, MANAGED_BY } from '../labels.ts';
import { WORKSPACE } from '../runner-place.ts';
import { sandboxMemoryMb } from '../sandbox-memory.ts';
import { drawSandboxUid } from '../sandbox-uid.ts';
import type { EngineFacts } from './engine-facts.ts';

/** Labels that only containers have. */
export const CONTAINER_LABEL = {
  createdAtMs: 'podgate.dev/created-at-ms',
  /** The process that made it: see process-mark.ts. */
  process: 'podgate.dev/process',
} as const;

/** Threads of runner, zygote and shims, which count as processes; a program's own are counted by the runner, per UID. */
export const RESERVED_PIDS = 256;
/** UIDs of a container where it has only 65,536: away from those that images use. */
export const FIRST_MAPPED_UID = 10_000;
export const MAPPED_UIDS = 55_000;
const LOG_BYTES = 65_536;
const NANO_CPUS = 1_000_000_000;
/** A page for each file: more would be memory that no size bounds. */
const BYTES_PER_INODE = 4_096;
const MIN_INODES = 1_024;
const MAX_INODES = 262_144;

/** One container's own part of its specification. */
export type ContainerIdentity = {
  installation: string;
  instance: string;
  /** Absent where the maker cannot be told from other processes. */
  mark: string | undefined;
  createdAtMs: number;
  uid: number;
  /** The image by its digest, so that what was looked at is what runs. */
  imageId: string;
  /** Where the image declares volumes: writable places on the engine's disk, were they not covered. */
  imageVolumes: readonly string[];
};

/** The UID of a new container. `random` is 0 ≤ n < 1. */
export function drawContainerUid(
  template: Template,
  { hasMappedUids }: Pick<EngineFacts, 'hasMappedUids'>,
  random: () => number,
): number {
  if (template.uid !== undefined) return template.uid;
  return hasMappedUids ? FIRST_MAPPED_UID + Math.floor(random() * MAPPED_UIDS) : drawSandboxUid(random);
}

/** The container of one sandbox: every privilege off, nothing of the host, and no default that an engine or an image may change. */
export function containerSpec(
  template: Template,
  identity: ContainerIdentity,
  { command, facts }: { command: readonly string[]; facts: EngineFacts },
): object {
  return {
    Image: identity.imageId,
    Entrypoint: [...command],
    Cmd: [],
    User: `${identity.uid}:${identity.uid}`,
    WorkingDir: WORKSPACE,
    Hostname: 'sandbox',
    Labels: labelsOf(template, identity),
    Tty: false,
    OpenStdin: false,
    AttachStdin: false,
    AttachStdout: false,
    AttachStderr: false,
    // An image's own check would run beside the runner.
    Healthcheck: { Test: ['NONE'] },
    HostConfig: hostConfig(template, identity, facts),
  };
}

function hostConfig(
  template: Template,
  { imageVolumes, uid }: ContainerIdentity,
  facts: EngineFacts,
): object {
  const { resources, docker } = template;
  const memory = mbToBytes(sandboxMemoryMb(resources, docker));
  return {
    NetworkMode: 'none',
    // Else the engine copies the host's servers and search domains.
    Dns: ['127.0.0.1'],
    DnsSearch: ['.'],
    ReadonlyRootfs: true,
    CapDrop: ['ALL'],
    Privileged: false,
    SecurityOpt: ['no-new-privileges'],
    IpcMode: 'private',
    CgroupnsMode: 'private',
    // The engine's `init` would be PID 1 in the runner's place.
    Init: false,
    ...(docker.runtime === undefined ? {} : { Runtime: docker.runtime }),
    RestartPolicy: { Name: 'no' },
    AutoRemove: false,
    LogConfig: { Type: 'json-file', Config: { 'max-size': String(LOG_BYTES), 'max-file': '1' } },
    Memory: memory,
    MemorySwap: memory,
    ...(facts.hasSwapLimit || facts.cgroupVersion !== '1' ? {} : { MemorySwappiness: 0 }),
    NanoCpus: Math.round(Math.min(resources.cpus, facts.cpus) * NANO_CPUS),
    PidsLimit: resources.processes + RESERVED_PIDS,
    Ulimits: [{ Name: 'core', Soft: 0, Hard: 0 }],
    Tmpfs: {
      ...Object.fromEntries(imageVolumes.map((path) => [path, 'ro,nosuid,nodev,noexec,size=4k'])),
      [WORKSPACE]: tmpfs(resources.workspace_mb, uid, 'exec'),
      '/tmp': tmpfs(resources.tmp_mb, uid, 'exec'),
      '/dev/shm': tmpfs(docker.shm_mb, uid, 'noexec'),
      // Message queues would outlive what made them, and no limit of the template bounds them.
      '/dev/mqueue': 'ro,nosuid,nodev,noexec,size=4k',
    },
  };
}

/** Owned by the sandbox's user: where the image has the folder, runc gives the mount that one's mode whatever is asked for. */
function tmpfs(mb: number, uid: number, exec: 'exec' | 'noexec'): string {
  const inodes = Math.min(Math.max(mbToBytes(mb) / BYTES_PER_INODE, MIN_INODES), MAX_INODES);
  return `rw,nosuid,nodev,${exec},size=${mb}m,nr_inodes=${inodes},mode=1777,uid=${uid},gid=${uid}`;
}

function labelsOf(
  template: Template,
  { installation, instance, mark, createdAtMs }: ContainerIdentity,
): Record<string, string> {
  return {
    [LABEL.managedBy]: MANAGED_BY,
    [LABEL.installation]: installation,
    [LABEL.instance]: instance,
    [LABEL.template]: template.name,
    [LABEL.templateHash]: template.hash,
    [CONTAINER_LABEL.createdAtMs]: String(createdAtMs),
    ...(mark === undefined ? {} : { [CONTAINER_LABEL.process]: mark }),
  };
}
