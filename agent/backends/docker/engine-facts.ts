import type * as z from 'zod';
import { Failure } from '../../../shared/errors.ts';
import { ANSWER } from './engine-answer.ts';
import type { EngineClient, EngineVersion } from './engine-client.ts';
import { PRODUCT_TRAITS } from './engine-product.ts';

/** What of `GET /info` counts. */
export type EngineInfo = z.infer<typeof ANSWER.info>;

/** What containers can have on this engine. */
export type EngineFacts = EngineVersion & {
  readonly cpus: number;
  /** Swap is accounted: memory and swap can be bounded together. */
  readonly hasSwapLimit: boolean;
  readonly cgroupVersion: string;
  /** A container's UIDs are some 65,536 of the machine's (rootless, userns-remap), not all of them. */
  readonly hasMappedUids: boolean;
  /** What runs containers that name no runtime. */
  readonly defaultRuntime: string | undefined;
  /** Limits that the engine does not hold; without what bounds them otherwise only where it was allowed. */
  readonly limitsNotHeld: readonly string[];
};

const LIMITS = [
  ['MemoryLimit', 'memory', 'memory'],
  ['PidsLimit', 'pids', 'the number of processes'],
  ['CpuCfsQuota', 'cpu', 'processor time'],
] as const;

const MEMORY_BOUNDS_FILES = 'the number of files but by memory';

/**
 * What an engine says of itself, as facts. Throws a Failure where its containers would not be what a template promises: an
 * engine drops a limit that it cannot hold with a warning that nobody reads.
 */
export function judgeEngine(info: EngineInfo, isUnsafe: boolean): Omit<EngineFacts, keyof EngineVersion> {
  if (info.OSType !== undefined && info.OSType !== 'linux')
    throw new Failure('backend_unavailable', `The engine runs ${info.OSType} containers; Linux is needed.`);
  const security = (info.SecurityOptions ?? []).map((option) => option.split(','));
  const has = (name: string) => security.find(([first]) => first === `name=${name}`);
  const seccomp = has('seccomp');
  if (seccomp === undefined || seccomp.includes('profile=unconfined'))
    throw new Failure(
      'isolation_failed',
      'The engine gives containers no seccomp profile: start it without --seccomp-profile=unconfined, on a kernel with seccomp.',
    );
  const isRootless = info.Rootless === true || has('rootless') !== undefined;
  // Podman says what the machine has. Without root nobody may use the first version's control groups, and it drops limits in silence.
  const holdsNone = isRootless && (info.CgroupVersion ?? '1') === '1';
  const limitsNotHeld = LIMITS.filter(([name]) => holdsNone || info[name] !== true).map(([, , what]) => what);
  if (limitsNotHeld.length > 0 && !isUnsafe)
    throw new Failure(
      'isolation_failed',
      `The engine does not bound ${limitsNotHeld.join(', ')} of containers: give it those control groups ` +
        '(rootless: cgroup v2 with systemd), or set PODGATE_UNSAFE=true if you mean it.',
    );
  return {
    cpus: info.NCPU ?? 1,
    hasSwapLimit: info.SwapLimit === true,
    cgroupVersion: info.CgroupVersion ?? '1',
    defaultRuntime: info.DefaultRuntime,
    hasMappedUids: isRootless || has('userns') !== undefined,
    limitsNotHeld,
  };
}

/** Asks the engine. Rejects with a Failure where it cannot be reached or used. */
export async function readEngineFacts(
  client: EngineClient,
  { isUnsafe, signal }: { isUnsafe: boolean; signal: AbortSignal },
): Promise<EngineFacts> {
  const version = await client.negotiate(signal);
  const traits = PRODUCT_TRAITS[version.product];
  const info = await client.call({ method: 'GET', path: '/info', signal }, ANSWER.info);
  const judged = judgeEngine(
    traits.namesControllers ? { ...info, ...(await limitsByController(client, signal)) } : info,
    isUnsafe,
  );
  const limitsNotHeld = traits.boundsFiles
    ? judged.limitsNotHeld
    : [...judged.limitsNotHeld, MEMORY_BOUNDS_FILES];
  return { ...version, ...judged, limitsNotHeld };
}

/** What the control groups that the engine may use can bound. */
async function limitsByController(client: EngineClient, signal: AbortSignal): Promise<Partial<EngineInfo>> {
  const { host } = await client.call({ method: 'GET', path: '/libpod/info', signal }, ANSWER.podmanInfo);
  const controllers = host.cgroupControllers ?? [];
  return Object.fromEntries(LIMITS.map(([name, controller]) => [name, controllers.includes(controller)]));
}
