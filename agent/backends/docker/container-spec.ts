import { Failure } from '../../../shared/errors.ts';
import { mbToBytes, type Template } from '../../../shared/template.ts';
import { LABEL, MANAGED_BY } from '../labels.ts';
import { WORKSPACE } from '../runner-place.ts';
import { sandboxMemoryMb } from '../sandbox-memory.ts';
import { drawSandboxUid } from '../sandbox-uid.ts';
import { containerMounts } from './container-mounts.ts';
import type { EngineFacts } from './engine-facts.ts';
import { PRODUCT_TRAITS } from './engine-product.ts';
import type { Image } from './images.ts';

/** Labels that only containers have. */
export const CONTAINER_LABEL = {
  createdAtMs: 'podgate.dev/created-at-ms',
  /** The process that made it: see process-mark.ts. */
  process: 'podgate.dev/process',
  /** The container's own name: an image made of it has its labels, and so has what is run from that. */
  sandbox: 'podgate.dev/sandbox',
} as const;

/** Threads of runner, zygote and shims, which count as processes; a program's own are counted by the runner, per UID. */
export const RESERVED_PIDS = 256;
/** UIDs of a container where it has only 65,536: away from those that images use. */
export const FIRST_MAPPED_UID = 10_000;
export const MAPPED_UIDS = 55_000;
const LOG_BYTES = 65_536;
const NANO_CPUS = 1_000_000_000;
/** Descriptors that the runner may need beside those of a program. */
export const RUNNER_FILES = 4_096;
/** Where a template fixes the UID its containers count together: only each one's control group bounds it. */
export const SHARED_UID_PROCESSES = 32_768;
export const STACK_BYTES = 8_388_608;
const UNLIMITED = -1;

/** One container's own part of its specification. */
export type ContainerIdentity = {
  name: string;
  installation: string;
  instance: string;
  /** Absent where the maker cannot be told from other processes. */
  mark: string | undefined;
  createdAtMs: number;
  uid: number;
  /** By its digest, so that what was looked at is what runs. Its volumes would be writable places on the engine's disk. */
  image: Image;
};

/** What a template is run from. Throws a Failure for a template whose containers this engine cannot make as it says. */
export function imageToRun(
  { name, image, network, docker: { runtime } }: Template,
  { product, defaultRuntime }: Pick<EngineFacts, 'product' | 'defaultRuntime'>,
): string {
  if (image === undefined) throw new Failure('image_error', `Template '${name}' names no image.`);
  if (network !== 'none')
    throw new Failure(
      'policy_denied',
      `Docker sandboxes have no network: give the template '${name}' network none, or another backend.`,
    );
  if (runtime !== undefined && runtime !== defaultRuntime && !PRODUCT_TRAITS[product].choosesRuntime)
    throw new Failure(
      'isolation_failed',
      `The engine gives every container its own default runtime, ${defaultRuntime}: template '${name}' wants ${runtime}.`,
    );
  return image;
}

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
    Image: identity.image.id,
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
    // Only against an image's own: Podman makes a timer to check nothing.
    ...(identity.image.hasCheck ? { Healthcheck: { Test: ['NONE'] } } : {}),
    HostConfig: hostConfig(template, identity, facts),
  };
}

function hostConfig(template: Template, identity: ContainerIdentity, facts: EngineFacts): object {
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
    // What is not named the engine's own defaults fill in: one file of a log cannot be compressed, and fails the start.
    LogConfig: {
      Type: 'json-file',
      Config: { 'max-size': String(LOG_BYTES), 'max-file': '1', compress: 'false' },
    },
    Memory: memory,
    MemorySwap: memory,
    ...(facts.hasSwapLimit || facts.cgroupVersion !== '1' ? {} : { MemorySwappiness: 0 }),
    NanoCpus: Math.round(Math.min(resources.cpus, facts.cpus) * NANO_CPUS),
    PidsLimit: resources.processes + RESERVED_PIDS,
    Ulimits: namedLimits(template),
    Tmpfs: containerMounts(
      template,
      { uid: identity.uid, imageVolumes: identity.image.volumes },
      PRODUCT_TRAITS[facts.product],
    ),
  };
}

/**
 * Descriptors for the runner, processes as the control group has them, the stack as the kernel gives it, no bound where the
 * runner has its own for each program, and for cores what the runner sets (harden.py). What is not named is as the engine's
 * operator says, which may be lower, and Podman raises files and processes as high as they go, which fails where it may not.
 */
function namedLimits({ resources, uid }: Template): object[] {
  const files = Math.max(resources.open_files, RUNNER_FILES);
  const processes = uid === undefined ? resources.processes + RESERVED_PIDS : SHARED_UID_PROCESSES;
  return [
    { Name: 'core', Soft: 1, Hard: 1 },
    ...['cpu', 'data', 'fsize'].map((Name) => ({ Name, Soft: UNLIMITED, Hard: UNLIMITED })),
    // Threads that name no stack have as much: with more of it few fit into a program's memory.
    { Name: 'stack', Soft: STACK_BYTES, Hard: UNLIMITED },
    { Name: 'nofile', Soft: files, Hard: files },
    { Name: 'nproc', Soft: processes, Hard: processes },
  ];
}

function labelsOf(
  template: Template,
  { name, installation, instance, mark, createdAtMs }: ContainerIdentity,
): Record<string, string> {
  return {
    [LABEL.managedBy]: MANAGED_BY,
    [LABEL.installation]: installation,
    [LABEL.instance]: instance,
    [LABEL.template]: template.name,
    [LABEL.templateHash]: template.hash,
    [CONTAINER_LABEL.createdAtMs]: String(createdAtMs),
    [CONTAINER_LABEL.sandbox]: name,
    ...(mark === undefined ? {} : { [CONTAINER_LABEL.process]: mark }),
  };
}
