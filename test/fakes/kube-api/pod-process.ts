import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';

/** What stands in for an image: the machine's own programs, on a root that nobody may write to. */
const INSIDE = `
set -e
root=/mnt
mount -t tmpfs -o size=1m,mode=755 root $root
for place in /bin /sbin /lib /lib32 /lib64 /libx32 /usr /etc /opt; do
  if [ -L $place ]; then cp -P $place $root$place
  elif [ -d $place ]; then mkdir $root$place; mount --rbind $place $root$place; fi
done
mkdir $root/proc $root/dev $root/tmp $root/workspace $root/mnt
mkdir -m 700 $root/root
mount -t proc proc $root/proc
mount --rbind /dev $root/dev
mount -t tmpfs -o size=$1m,mode=777 workspace $root/workspace
mount -t tmpfs -o size=$2m,mode=777 tmp $root/tmp
mount -t tmpfs -o size=$3m,mode=777 shm $root/dev/shm
shift 3
cd $root
PATH=$PATH:/usr/sbin:/sbin pivot_root . mnt
umount -l /mnt
mount -o remount,bind,ro /
cd /workspace
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
const ENVIRONMENT = {
  PATH: '/usr/local/bin:/usr/bin:/bin',
  HOSTNAME: 'sandbox',
  KUBERNETES_SERVICE_HOST: '10.0.0.1',
};

export type PodProcessOptions = {
  command: readonly string[];
  uid: number;
  /** MB of /workspace, /tmp and /dev/shm. */
  sizes: readonly [number, number, number];
};

/** A container: a command that is PID 1 of namespaces of its own, as another user, without a capability. */
export type PodProcess = {
  /** Resolves when the command itself runs. */
  readonly running: Promise<void>;
  /** Resolves with its end. */
  readonly ended: Promise<{ code: number | null; signal: string | null }>;
  /** Starts a command that enters from outside, as an exec does: inside, its PPid is 0. */
  enter(command: readonly string[]): ChildProcess;
  kill(): void;
  /** What it wrote to its own stdout and stderr. */
  log(): string;
};

export function startPodProcess({ command, uid, sizes }: PodProcessOptions): PodProcess {
  const inner = ['sh', '-c', INSIDE, 'sh', ...sizes.map(String), ...command];
  const isRoot = process.getuid?.() === 0;
  const drop = isRoot ? ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--'] : [];
  const map = isRoot ? ['--map-current-user'] : [`--map-user=${uid}`, `--map-group=${uid}`];
  const [file = 'unshare', ...args] = [...drop, 'unshare', ...map, ...UNSHARE, '--', ...inner];
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env: ENVIRONMENT });
  const noise: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => noise.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => noise.push(chunk));
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const ended = once(child, 'exit').then(([code, signal]) => {
    process.removeListener('exit', kill);
    return { code: code as number | null, signal: signal as string | null };
  });
  let pid: number | undefined;

  async function run(): Promise<void> {
    const name = command[0]?.split('/').at(-1) ?? '';
    while (child.exitCode === null && child.signalCode === null) {
      pid ??= pidOne(child.pid ?? 0);
      if (pid !== undefined && commandOf(pid) === name) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`the container did not start: ${Buffer.concat(noise)}`);
  }

  const running = run();
  running.catch(() => {});
  return {
    running,
    ended,
    enter(given) {
      const ids = isRoot ? [`--setuid=${uid}`, `--setgid=${uid}`] : ['--preserve-credentials'];
      const namespaces = ['--user', '--pid', '--mount', '--ipc', '--net'];
      const at = ['--root', '--wd', `--target=${pid}`];
      return spawn('nsenter', [...at, ...namespaces, ...ids, '--', ...given], { env: ENVIRONMENT });
    },
    kill,
    log: () => Buffer.concat(noise).toString(),
  };
}

/** The first process below `root` that is PID 1 of its own namespace. */
function pidOne(root: number): number | undefined {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    const parent = /^PPid:\s+(\d+)$/m.exec(read(`/proc/${name}/status`))?.[1];
    if (/^\d+$/.test(name) && parent !== undefined) parents.set(Number(name), Number(parent));
  }
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid);
    return parent === root || (parent !== undefined && parent > 1 && isBelow(parent));
  };
  return [...parents.keys()].find(
    (pid) => isBelow(pid) && /^NSpid:\s.*\s1$/m.test(read(`/proc/${pid}/status`)),
  );
}

function commandOf(pid: number): string | undefined {
  return read(`/proc/${pid}/cmdline`).split('\0')[0]?.split('/').at(-1);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
