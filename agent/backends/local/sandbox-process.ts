import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import { Failure } from '../../../shared/errors.ts';
import type { Clock } from '../../clock.ts';
import { startTimeOf } from '../../process-name.ts';
import type { MemoryGroup } from './memory-groups.ts';
import {
  type LaunchConfig,
  type SandboxUser,
  STREAM_FD,
  sandboxCommand,
  sandboxSpawnOptions,
} from './sandbox-command.ts';

const KILL_AFTER_MS = 2_000;
const LOOK_MS = 5;
const WORDS_BYTES = 4_096;

/** The keeper of a local sandbox, seen from the agent: it lives exactly as long as the sandbox's PID 1. */
export type SandboxProcess = {
  /** PID and start time: together they name one process and no later one. */
  readonly id: string;
  /** The stream to the runner, once. */
  takeStream(): Duplex | undefined;
  /** The end of what it wrote to stderr. */
  words(): string;
  /** Resolves when the sandbox and everything in it is gone. */
  readonly gone: Promise<void>;
  /** Ends it. Resolves like `gone`. */
  end(): Promise<void>;
};

export type StartSandboxOptions = {
  python: string;
  user: SandboxUser;
  config: LaunchConfig;
  clock: Clock;
  /** Where it is to run; without one, where the agent does. */
  group?: MemoryGroup | undefined;
};

export async function startSandboxProcess(options: StartSandboxOptions): Promise<SandboxProcess> {
  const { python, user, config, clock, group } = options;
  const place = group ? { memory_group: group.path } : {};
  const { file, args } = sandboxCommand(python, { ...config, ...place, stream_fd: STREAM_FD });
  const child = spawn(file, args, {
    ...sandboxSpawnOptions(python, user),
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
  await once(child, 'spawn').catch((cause) => {
    throw new Failure('backend_unavailable', 'The process of a local sandbox could not be started.', {
      cause,
    });
  });
  // A kill that fails later is of no interest: `exit` says when it is gone.
  child.on('error', () => {});
  const stream = child.stdio[STREAM_FD] as Duplex;
  // Until somebody listens, the end of the sandbox must not be an uncaught error.
  stream.on('error', () => {});
  // Heard from here on: it may end while it is put into its group.
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  if (group) await settle({ child, gone, group, stream });
  const words = collectWords(child);
  const ended = () => child.exitCode !== null || child.signalCode !== null;
  let taken = false;

  async function end(): Promise<void> {
    // The keeper may be slow to hear: on a machine with much to do it is killed itself, and then nobody else buries these.
    // With namespaces the first of them takes the others along; without, nothing but this list holds them.
    const inside = ended() ? [] : descendants(child.pid as number);
    child.kill('SIGTERM');
    const cancel = clock.after(KILL_AFTER_MS, () => child.kill('SIGKILL'));
    for (const each of inside) killIfSame(each);
    await gone;
    cancel();
    while (inside.some(isAlive)) await new Promise<void>((resolve) => clock.after(LOOK_MS, resolve));
  }

  return {
    id: `${child.pid}-${startTimeOf(child.pid as number) ?? 0}`,
    takeStream() {
      if (taken || ended()) return undefined;
      taken = true;
      return stream;
    },
    words,
    gone,
    end,
  };
}

type Unsettled = { child: ChildProcess; gone: Promise<void>; group: MemoryGroup; stream: Duplex };

/** The launcher waits for a byte before it makes anything: what it makes then is in the group from its first page on. */
async function settle({ child, gone, group, stream }: Unsettled): Promise<void> {
  try {
    await group.add(child.pid as number);
    stream.write('+');
  } catch (cause) {
    child.kill('SIGKILL');
    await gone;
    throw new Failure('backend_unavailable', 'A local sandbox could not be put into its control group.', {
      cause,
    });
  }
}

/** A place for a sandbox without file systems of its own. */
export async function makeBareWorkspace(root: string): Promise<{ workspace: string; scratch: string[] }> {
  const [workspace, scratch] = [`${root}/workspace`, `${root}/tmp`];
  await mkdir(workspace, { recursive: true });
  await mkdir(scratch);
  return { workspace, scratch: [scratch] };
}

export async function removeBareWorkspace(root: string): Promise<void> {
  await rm(root, { recursive: true, force: true, maxRetries: 3 });
}

function collectWords(child: ChildProcess): () => string {
  let last = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    last = (last + chunk).slice(-WORDS_BYTES);
  });
  return () => last.trim();
}

type ProcessName = { pid: number; startTime: string };

/** All that descends from a process now, each with its start time. */
function descendants(root: number): ProcessName[] {
  const found: ProcessName[] = [];
  const queue = [root];
  for (let parent = queue.shift(); parent !== undefined; parent = queue.shift()) {
    for (const pid of childrenOf(parent)) {
      const startTime = startTimeOf(pid);
      if (startTime === undefined || found.some((each) => each.pid === pid)) continue;
      found.push({ pid, startTime });
      queue.push(pid);
    }
  }
  return found;
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

function isAlive({ pid, startTime }: ProcessName): boolean {
  return startTimeOf(pid) === startTime;
}

function killIfSame(name: ProcessName): void {
  if (!isAlive(name)) return;
  try {
    process.kill(name.pid, 'SIGKILL');
  } catch {
    // Gone by itself.
  }
}
