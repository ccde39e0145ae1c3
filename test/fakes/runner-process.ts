import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { promisify } from 'node:util';
import { runnerCommand, shimCommand } from '../../agent/runner/bundle.ts';
import { createRunnerClient, type RunnerClient, type RunnerClientDeps } from '../../agent/runner/client.ts';
import type { Ready } from '../../agent/runner/messages.ts';
import { type Ran, type RunOptions, runOn } from './runner-run.ts';

/** The sandbox's user: never root, whoever runs the tests. */
const SANDBOX_UID = 65_532;
export const PYTHONS = (process.env.PODGATE_TEST_PYTHONS ?? '/usr/bin/python3').split(':').filter(Boolean);
const MIB = 1_048_576;
/** Of the kernel's sched.h. */
const PF_EXITING = 4;

/** What stands in for a pod's `/workspace`: a directory that every Linux has, hidden by a tmpfs of the sandbox's own. */
export const WORKSPACE = '/srv';
/** Writable for all, and no place of the program's: as a pod's termination log is. */
export const ELSEWHERE = '/media';
export const SCRATCH = ['/tmp', '/dev/shm'];

export type SandboxOptions = {
  python?: string;
  /** Members of agent/runner/protocol.md 2.1 that differ from the tests' own. */
  config?: Record<string, unknown>;
  /** The environment that the image brings. */
  env?: Record<string, string>;
  /** Mount options of `/srv`, `/tmp` and `/dev/shm`. */
  workspaceMount?: string;
  /** Puts plain pipes, as a container engine has them, between the test and the runner. */
  pipes?: boolean;
  /** A folder that the sandbox sees empty. */
  without?: string;
  /** Called when the runner runs and before it is spoken to. */
  beforeAttach?: (stream: Duplex, pid: number) => Promise<void>;
};

/** `leaving`: it runs no instruction any more, while the kernel takes it down (PF_EXITING, of all its threads). */
export type SandboxProcess = {
  pid: number;
  comm: string;
  state: string;
  parent: number;
  leaving: boolean;
};

export type Sandbox = AsyncDisposable & {
  readonly python: string;
  /** Where programs start. */
  readonly workspace: string;
  /** PID 1 of the sandbox, as the host numbers it. */
  readonly pid: number;
  /** The user of all that runs in it. */
  readonly uid: number;
  /** The newest stream's client. */
  readonly client: RunnerClient;
  readonly ready: Ready;
  run(code: string | Uint8Array, options?: RunOptions): Promise<Ran>;
  /** Everything that lives in the sandbox, PID 1 included, seen from outside; not the child that waits for a job, nor what
   * is leaving. */
  processes(): SandboxProcess[];
  /** What lives there beyond what lived there when the runner was ready. */
  strays(): SandboxProcess[];
  /** The same, and what is leaving. */
  remains(): SandboxProcess[];
  /** The zygote's child that waits for the next job. */
  waiting(): SandboxProcess | undefined;
  /** Open descriptors of PID 1 and of the processes that were there when it was ready; undefined to who may not look. */
  runnerDescriptors(): number | undefined;
  /** Resident bytes of PID 1 and of the processes that were there when it was ready. */
  runnerMemoryBytes(): number;
  /** The newest stream itself: for bytes that no client would send. */
  readonly stream: Duplex;
  /** A new stream through a process that enters from outside. Only with `attach: "socket"`. */
  attach(epoch: number, resume?: RunnerClientDeps['resume']): RunnerClient;
  /** The same by a child of a process that enters: its PPid is not 0. Resolves with what it was sent when it ends. */
  intrude(): Promise<string>;
  /** What a program prints that entered from outside as the sandbox's user, with nothing to confine it. */
  neighbour(code: string): Promise<string>;
  /** What the runner itself wrote to its stderr: for a failed test's eyes. */
  log(): string;
  /** Resolves with PID 1's end. */
  readonly exited: Promise<void>;
};

/** Mounts, drops every capability, becomes the runner. `$1` are the workspace's mount options, `$2` what is hidden; the rest is the command. */
const INSIDE = `
set -e
mount -t tmpfs -o "$1" workspace ${WORKSPACE}
mount -t tmpfs -o size=128m,mode=1777 scratch /tmp
mount -t tmpfs -o size=128m,mode=1777 scratch /dev/shm
mount -t tmpfs -o size=1m,mode=1777 elsewhere ${ELSEWHERE}
mount -o remount,bind,ro / 2>/dev/null || true
[ -z "$2" ] || mount -t tmpfs -o size=1m,mode=755 without "$2"
shift 2
cd /
exec setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all -- "$@"
`;
const UNSHARE = [
  '--user',
  '--keep-caps',
  '--pid',
  '--fork',
  '--kill-child',
  '--mount',
  '--mount-proc',
  '--ipc',
  '--net',
];
/** Over a socket that is stream both ways: what the test's process holds is one descriptor with writev. */
const ONE_SOCKET = 'exec <&3 >&3 3>&-; exec "$@"';
/** The same through two pipes. */
const TWO_PIPES = 'exec <&3 >&3 3>&-; cat | "$@" | cat';

/** Why this machine cannot make the tests' namespaces; undefined where it can. */
export function sandboxTrouble(python: string): string | undefined {
  if (process.platform !== 'linux') return 'the runner needs Linux';
  try {
    accessSync(python, constants.X_OK);
  } catch {
    return `${python} cannot be run`;
  }
  const [command, ...args] = enter([
    'sh',
    '-c',
    INSIDE,
    'sh',
    'size=1m',
    '',
    python,
    '-I',
    '-S',
    '-c',
    'pass',
  ]);
  const { status, stderr, error } = spawnSync(command as string, args, { encoding: 'utf8' });
  return status === 0 ? undefined : `no namespaces of its own: ${(error?.message ?? stderr).trim()}`;
}

function enter(command: string[]): string[] {
  const isRoot = process.getuid?.() === 0;
  const drop = isRoot
    ? ['setpriv', `--reuid=${SANDBOX_UID}`, `--regid=${SANDBOX_UID}`, '--clear-groups', '--']
    : [];
  const map = isRoot ? ['--map-current-user'] : [`--map-user=${SANDBOX_UID}`, `--map-group=${SANDBOX_UID}`];
  return [...drop, 'unshare', ...map, ...UNSHARE, '--', ...command];
}

/** A runner that is PID 1 of namespaces of its own, as in a pod, with executions in those same namespaces. */
export async function createSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const python = options.python ?? (PYTHONS[0] as string);
  const config = {
    languages: ['python', 'bash', 'node'],
    workspace: WORKSPACE,
    scratch: SCRATCH,
    place: 'shared',
    // A test that dies leaves no runner behind.
    idle_exit_seconds: 10,
    // The machine's own cgroup would count everything on it.
    cgroup_root: '/nonexistent',
    limits: {
      memory_bytes: 256 * MIB,
      cpu_seconds: 20,
      processes: 64,
      open_files: 256,
      file_bytes: 64 * MIB,
    },
    ...options.config,
  };
  const command = runnerCommand({ python, config });
  const mount = options.workspaceMount ?? 'size=128m,mode=1777';
  const inner = ['sh', '-c', INSIDE, 'sh', mount, options.without ?? '', ...command];
  const outer = ['sh', '-c', options.pipes ? TWO_PIPES : ONE_SOCKET, 'sh', ...enter(inner)];
  const child = spawn(outer[0] as string, outer.slice(1), {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...options.env },
  });
  const exited = once(child, 'exit').then(() => {});
  const noise: Buffer[] = [];
  child.stderr?.on('data', (chunk: Buffer) => noise.push(chunk));
  const log = () => Buffer.concat(noise).toString();
  const killOnExit = () => child.kill('SIGKILL');
  process.once('exit', killOnExit);

  const pid = await pidOne(child);
  const shims: ChildProcess[] = [];
  let stream = child.stdio[3] as Duplex;
  let client: RunnerClient;
  let ready: Ready;
  let lastStream = 0;

  function attach(epoch: number, resume: RunnerClientDeps['resume'] = []): RunnerClient {
    const shim = spawnShim(python, pid);
    shims.push(shim);
    stream = shim.stdio[3] as Duplex;
    client = createRunnerClient({ stream, epoch, resume });
    client.ready.then(
      (body) => {
        ready = body;
      },
      () => {},
    );
    return client;
  }

  async function dispose(): Promise<void> {
    client?.close();
    child.kill('SIGKILL');
    kill(pid);
    for (const shim of shims) shim.kill('SIGKILL');
    await exited;
    process.removeListener('exit', killOnExit);
  }

  try {
    await options.beforeAttach?.(stream, pid);
    client = options.config?.attach === 'socket' ? attach(1) : createRunnerClient({ stream, epoch: 1 });
    ready = await client.ready;
  } catch (cause) {
    await dispose();
    throw new Error(`the runner did not come up: ${log()}`, { cause });
  }
  const own = new Set(processesBelow(pid).flatMap((process) => (isWaiting(process, pid) ? [] : process.pid)));
  const found = () => processesBelow(pid).filter((process) => !isWaiting(process, pid));
  const processes = () => found().filter((process) => !process.leaving);
  const remains = () => found().filter((process) => !own.has(process.pid));

  return {
    python,
    workspace: WORKSPACE,
    pid,
    uid: SANDBOX_UID,
    get client() {
      return client;
    },
    get ready() {
      return ready;
    },
    run: (code, runOptions = {}) => {
      lastStream += 1;
      return runOn(client, lastStream, code, runOptions);
    },
    processes,
    strays: () => processes().filter((process) => !own.has(process.pid)),
    remains,
    waiting: () => processesBelow(pid).find((process) => isWaiting(process, pid)),
    runnerDescriptors: () => descriptorsOf([...own]),
    runnerMemoryBytes: () => [...own].reduce((sum, each) => sum + residentBytes(each), 0),
    get stream() {
      return stream;
    },
    attach,
    intrude: async () => {
      const shim = spawnShim(python, pid, ['sh', '-c', '"$@"; exit 0', 'sh']);
      shims.push(shim);
      const got: Buffer[] = [];
      (shim.stdio[3] as Duplex).on('data', (chunk: Buffer) => got.push(chunk));
      await once(shim, 'close');
      return Buffer.concat(got).toString();
    },
    neighbour: async (code) => {
      const [file = '', ...args] = [...entering(pid), python, '-c', code];
      return (await promisify(execFile)(file, args)).stdout;
    },
    log,
    exited,
    [Symbol.asyncDispose]: dispose,
  };
}

/** A shim as a kubelet's exec would start it: its parent stays outside, so that inside its PPid is 0. */
function spawnShim(python: string, pid: number, parent: string[] = []): ChildProcess {
  const args = ['-c', ONE_SOCKET, 'sh', ...entering(pid), ...parent, ...shimCommand(python)];
  return spawn('sh', args, { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
}

function entering(pid: number): string[] {
  const isRoot = process.getuid?.() === 0;
  const ids = isRoot ? [`--setuid=${SANDBOX_UID}`, `--setgid=${SANDBOX_UID}`] : ['--preserve-credentials'];
  return ['nsenter', `--target=${pid}`, '--user', '--pid', '--mount', '--ipc', '--net', ...ids, '--'];
}

/** The host's number of the sandbox's PID 1: the first below `child` whose NSpid ends in 1, once it can be entered. */
async function pidOne(child: ChildProcess): Promise<number> {
  for (;;) {
    for (const { pid } of processesBelow(child.pid as number)) {
      if (/^NSpid:\s.*\s1$/m.test(statusOf(pid)) && hasGroups(pid)) return pid;
    }
    if (child.exitCode !== null) throw new Error('the sandbox ended before it began');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** `root` and all that descends from it. Orphans of a PID namespace become its PID 1's children: nothing escapes this. */
export function processesBelow(root: number): SandboxProcess[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .map(processOf);
  const found: SandboxProcess[] = [];
  const queue = [root];
  for (let parent = queue.shift(); parent !== undefined; parent = queue.shift()) {
    for (const process of all) {
      if (!process) continue;
      if (process.pid === root && parent === root && !found.includes(process)) found.push(process);
      else if (process.parent === parent) {
        found.push(process);
        queue.push(process.pid);
      }
    }
  }
  return found;
}

function processOf(pid: number): SandboxProcess | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const close = stat.lastIndexOf(')');
    const fields = stat.slice(close + 2).split(' ');
    const [state, parent] = fields;
    return {
      pid,
      comm: stat.slice(stat.indexOf('(') + 1, close),
      state: state as string,
      parent: Number(parent),
      leaving: (Number(fields[6]) & PF_EXITING) !== 0 && fields[17] === '1',
    };
  } catch {
    return undefined;
  }
}

/** A child of the zygote that has the zygote's standard streams, and not yet a program's. */
export function isWaiting({ pid, parent }: SandboxProcess, root: number): boolean {
  if (pid === root || parent === root || processOf(parent)?.parent !== root) return false;
  try {
    return readlinkSync(`/proc/${pid}/fd/0`) === readlinkSync(`/proc/${parent}/fd/0`);
  } catch (error) {
    // It is closed even to its own UID while it waits.
    return (error as NodeJS.ErrnoException).code === 'EACCES';
  }
}

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'latin1');
  } catch {
    return '';
  }
}

/** `unshare` maps groups last, after it has forked PID 1; before that nobody enters as one of them. */
function hasGroups(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/gid_map`, 'latin1') !== '';
  } catch {
    return false;
  }
}

export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(statusOf(pid))?.[1] ?? 0) * 1024;
}

export function descriptorsOf(pids: number[]): number | undefined {
  try {
    return pids.reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/fd`).length, 0);
  } catch {
    return undefined;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}
