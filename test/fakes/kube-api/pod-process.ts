import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';

/**
 * What stands in for an image: the machine's own programs, on a root that nobody may write to. Its /root is the user's here:
 * it is closed to them as an image's is, which is another's, over the termination log that a kubelet mounts.
 */
const INSIDE = `
set -e
root=/mnt
mount -t tmpfs -o size=1m,mode=755 root $root
for place in /bin /sbin /lib /lib32 /lib64 /libx32 /usr /etc /opt; do
  if [ -L $place ]; then cp -P $place $root$place
  elif [ -d $place ]; then mkdir $root$place; mount --rbind $place $root$place; mount -o remount,bind,ro $root$place; fi
done
mkdir $root/proc $root/dev $root/tmp $root/workspace $root/mnt
mkdir $root/root
touch $root/root/.podgate-termination
chmod 666 $root/root/.podgate-termination
mount --bind $root/root/.podgate-termination $root/root/.podgate-termination
chmod 0 $root/root
mount -t proc proc $root/proc
mount --rbind /dev $root/dev
mount -t tmpfs -o size=$1m,mode=777 workspace $root/workspace
mount -t tmpfs -o size=$2m,mode=777 tmp $root/tmp
mount -t tmpfs -o size=$3m,mode=777 shm $root/dev/shm
case $4 in *token*)
  mkdir -p $root/var/run/secrets/kubernetes.io/serviceaccount
  echo secret > $root/var/run/secrets/kubernetes.io/serviceaccount/token
esac
case $4 in *network*) PATH=$PATH:/usr/sbin:/sbin ip link set lo up; esac
shift 4
cd $root
PATH=$PATH:/usr/sbin:/sbin pivot_root . mnt
umount -l /mnt
mount -o remount,bind,ro /
cd /workspace
exec setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all -- "$@"
`;
/** Takes every connection and answers every datagram. */
const LISTEN = `
import select, socket, sys
sockets = []
for text in sys.argv[1:]:
    host, port = text.rsplit(':', 1)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = socket.socket(socket.AF_INET, kind)
        one.bind((host, int(port)))
        if kind == socket.SOCK_STREAM: one.listen(16)
        sockets.append(one)
print('listening', flush=True)
while True:
    for one in select.select(sockets, [], [])[0]:
        if one.type == socket.SOCK_STREAM: one.accept()[0].close()
        else: one.sendto(*one.recvfrom(512))
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
  KUBERNETES_SERVICE_HOST: '127.0.0.3',
};

/** There is no control group here: what weighs less than its runner would weigh less than all else on the machine. */
const NICE = /"program_nice":\d+/;
const FILTERED = '"network":false';

/** What a node does that it must not. */
export type NodeFaults = {
  /** A token of the cluster's is in the container. */
  readonly token: boolean;
  /** Its kernel takes no filter of system calls for the network. */
  readonly unfiltered: boolean;
  /** Nothing keeps the container from these: `address:port`, of its own loopback, so that nobody else is met. */
  readonly reachable: readonly string[];
};

export type PodProcessOptions = {
  command: readonly string[];
  /** Beside the image's own. */
  env: Readonly<Record<string, string>>;
  uid: number;
  faults: NodeFaults;
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

export function startPodProcess({ command, env, uid, sizes, faults }: PodProcessOptions): PodProcess {
  const words = [faults.token ? 'token' : '', faults.reachable.length > 0 ? 'network' : ''];
  const told = command.map((each) => each.replace(NICE, '"program_nice":0'));
  const given = faults.unfiltered ? told.map((each) => each.replace(FILTERED, '"network":true')) : told;
  const inner = ['sh', '-c', INSIDE, 'sh', ...sizes.map(String), words.join(','), ...given];
  const environment = { ...ENVIRONMENT, ...env };
  const isRoot = process.getuid?.() === 0;
  const drop = isRoot ? ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--'] : [];
  const map = isRoot ? ['--map-current-user'] : [`--map-user=${uid}`, `--map-group=${uid}`];
  const [file = 'unshare', ...args] = [...drop, 'unshare', ...map, ...UNSHARE, '--', ...inner];
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env: environment });
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
      if (pid !== undefined && commandOf(pid) === name) return listenInside(pid);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`the container did not start: ${Buffer.concat(noise)}`);
  }

  /** Peers that answer inside the container's network, until the container ends. */
  async function listenInside(at: number): Promise<void> {
    if (faults.reachable.length === 0) return;
    const into = ['--preserve-credentials', '--user', '--net', `--target=${at}`, '--'];
    const peers = spawn('nsenter', [...into, 'python3', '-c', LISTEN, ...faults.reachable], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: ENVIRONMENT,
    });
    child.once('exit', () => peers.kill('SIGKILL'));
    await once(peers.stdout, 'data');
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
      return spawn('nsenter', [...at, ...namespaces, ...ids, '--', ...given], { env: environment });
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
