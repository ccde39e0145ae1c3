import { access, chmod, mkdir, readdir, rmdir, stat, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../../../shared/errors.ts';
import { startTimeOf } from '../../process-name.ts';

/** A group is busy for a moment after its last process. */
const REMOVE_TRIES = 100;
const REMOVE_PAUSE_MS = 20;
/** Others may go through a folder. */
const ENTERED_BY_OTHERS = 0o001;

/** A memory control group of one sandbox. */
export type MemoryGroup = {
  readonly path: string;
  add(pid: number): Promise<void>;
  /** Waits for the kernel to let go of what was in it. */
  remove(): Promise<void>;
};

/** Memory control groups below one that the agent may use. */
export type MemoryGroups = { make(limitBytes: number): Promise<MemoryGroup> };

/**
 * Groups below `parent`: a folder of the memory hierarchy of version 1, or of version 2 with `memory` in its
 * `cgroup.subtree_control`, in which this process may make folders and move processes. Rejects with `backend_unavailable`
 * and the reason where one cannot be made and limited. What agents that are gone left below it is removed.
 */
export async function createMemoryGroups(parent: string): Promise<MemoryGroups> {
  const mine = `podgate-${process.pid}-${startTimeOf(process.pid) ?? 0}`;
  let made = 0;

  async function make(limitBytes: number): Promise<MemoryGroup> {
    made += 1;
    const path = `${parent}/${mine}-${made}`;
    await mkdir(path);
    try {
      // Its sandbox's user reads there, whatever this process's umask.
      await chmod(path, 0o755);
      await limit(path, limitBytes);
    } catch (error) {
      await rmdir(path);
      throw error;
    }
    return {
      path,
      add: (pid) => writeFile(`${path}/cgroup.procs`, String(pid)),
      remove: () => removeGroup(path),
    };
  }

  try {
    await removeDead(parent);
    const probe = await make(1 << 30);
    await probe.remove();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new Failure(
      'backend_unavailable',
      `PODGATE_MEMORY_CGROUP: '${parent}' is no memory control group in which the agent can make others (${code ?? message}).`,
      { cause },
    );
  }
  // Root's sandboxes have users of their own.
  if (process.getuid?.() === 0 && ((await stat(parent)).mode & ENTERED_BY_OTHERS) === 0)
    throw new Failure(
      'backend_unavailable',
      `PODGATE_MEMORY_CGROUP: '${parent}' cannot be entered by the users of sandboxes: 'chmod o+x' it.`,
    );
  return { make };
}

async function limit(path: string, bytes: number): Promise<void> {
  const second = await exists(`${path}/memory.max`);
  await writeFile(`${path}/${second ? 'memory.max' : 'memory.limit_in_bytes'}`, String(bytes));
  // Where swap is counted at all: it would be memory beyond the limit.
  const [swap, most] = second ? ['memory.swap.max', 0] : ['memory.memsw.limit_in_bytes', bytes];
  if (await exists(`${path}/${swap}`)) await writeFile(`${path}/${swap}`, String(most));
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function removeGroup(path: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await rmdir(path);
      return;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return;
      if (code !== 'EBUSY' || tries === REMOVE_TRIES) throw error;
    }
    await sleep(REMOVE_PAUSE_MS);
  }
}

/** An agent that was killed could not remove its groups; the kernel ended what was in them. */
async function removeDead(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const [, pid, start] = /^podgate-(\d+)-(\d+)-\d+$/.exec(name) ?? [];
    if (pid === undefined || startTimeOf(Number(pid)) === start) continue;
    // One that is still busy is the next agent's.
    await rmdir(`${parent}/${name}`).catch(() => {});
  }
}
