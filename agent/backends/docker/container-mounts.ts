import { posix } from 'node:path';
import { mbToBytes, type Template } from '../../../shared/template.ts';
import { WORKSPACE } from '../runner-place.ts';
import type { ProductTraits } from './engine-product.ts';

/** A page for each file: more would be memory that no size bounds. */
const BYTES_PER_INODE = 4_096;
const MIN_INODES = 1_024;
const MAX_INODES = 262_144;
const COVERED = 'ro,nosuid,nodev,noexec,size=4k';

/** All that a container can write to, and what covers the rest: `HostConfig.Tmpfs`. */
export function containerMounts(
  { resources, docker }: Template,
  { imageVolumes, uid }: { imageVolumes: readonly string[]; uid: number },
  traits: ProductTraits,
): Record<string, string> {
  const mount = (mb: number, exec: 'exec' | 'noexec') =>
    `rw,nosuid,nodev,${exec},size=${mb}m,mode=1777,${traits.boundsFiles ? filesAndOwner(mb, uid) : 'U'}`;
  // Message queues would outlive what made them, and no limit of the template bounds them.
  const covered = [...imageVolumes.map(asMounted), ...traits.writablePlaces, '/dev/mqueue'];
  return {
    ...Object.fromEntries(covered.map((path) => [path, COVERED])),
    [WORKSPACE]: mount(resources.workspace_mb, 'exec'),
    '/tmp': mount(resources.tmp_mb, 'exec'),
    '/dev/shm': mount(docker.shm_mb, 'noexec'),
  };
}

/** An image's `/tmp/` is our `/tmp`: under another name it would be mounted over it. */
function asMounted(volume: string): string {
  return posix.normalize(volume).replace(/(?<=.)\/$/, '');
}

/** Owned by the sandbox's user: where the image has the folder, runc gives the mount that one's mode whatever is asked for. */
function filesAndOwner(mb: number, uid: number): string {
  const inodes = Math.min(Math.max(mbToBytes(mb) / BYTES_PER_INODE, MIN_INODES), MAX_INODES);
  return `nr_inodes=${inodes},uid=${uid},gid=${uid}`;
}
