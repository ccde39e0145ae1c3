import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseFindings } from '../../agent/canary/findings.ts';

const SOURCES = new URL('../../agent/canary/probe/', import.meta.url);
/** Namespaces of their own, as root of nothing: what is broken in there is broken for nobody else. */
const APART = [
  '--user',
  '--map-root-user',
  '--net',
  '--mount',
  '--pid',
  '--fork',
  '--mount-proc',
  '--kill-child',
];
const PYTHON = '/usr/bin/python3';
const refused = spawnSync('unshare', [...APART, 'ip', 'link', 'set', 'lo', 'up']).status !== 0;
const trouble = 'this machine gives an ordinary program no namespaces';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'podgate-probe-'));
  for (const name of readdirSync(SOURCES))
    if (name.endsWith('.py')) writeFileSync(join(dir, name), readFileSync(new URL(name, SOURCES)));
});
afterAll(() => rmSync(dir, { recursive: true }));

type Request = { mode: string; targets?: Record<string, string[]>; peer?: object; mark?: string };

/** Runs the probe after `prepare`, a script for the namespaces. */
function probe(
  prepare: string,
  request: Request,
): Promise<Record<string, { state: string; detail: string }>> {
  const asked = { targets: {}, peer: null, mark: 'mark', wait_ms: 300, ...request };
  const script = `set -e\nPATH=$PATH:/usr/sbin:/sbin\nip link set lo up\n${prepare}\ncd ${dir}; exec ${PYTHON} -B main.py`;
  const child = spawn('unshare', [...APART, 'sh', '-c', script], { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.end(JSON.stringify(asked));
  return new Promise((resolve, reject) => {
    let [out, words] = ['', ''];
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.stderr.on('data', (chunk) => {
      words += chunk;
    });
    child.on('close', () => {
      const findings = parseFindings(out);
      if (!findings) reject(new Error(`no report: ${out} ${words}`));
      else resolve(Object.fromEntries(findings.map(({ name, ...found }) => [name, found])));
    });
  });
}

const LISTENER = (address: string, port: number) => `
${PYTHON} -c "
import socket
tcp = socket.socket(); tcp.bind(('${address}', ${port})); tcp.listen()
udp = socket.socket(type=socket.SOCK_DGRAM); udp.bind(('${address}', ${port}))
import os
open('/dev/shm/ready-' + str(os.getppid()), 'w').close() if False else None
print('up', flush=True)
while True: udp.sendto(*udp.recvfrom(512))
" > /proc/self/fd/3 &
read up <&3`;
/** A FIFO for the words of what runs beside the probe. */
const WORDS = (name: string) => `mount -t tmpfs words /mnt; mkfifo /mnt/${name}; exec 3<>/mnt/${name}`;

describe.skipIf(refused)(`the probe${refused ? `: ${trouble}` : ''}`, () => {
  test('says what it reached: a connection that is taken, a datagram that is answered', async () => {
    const prepare = `${WORDS('words')}\n${LISTENER('127.0.0.7', 5300)}`;
    const found = await probe(prepare, {
      mode: 'network',
      targets: { dns: ['127.0.0.7:5300'], metadata: ['127.0.0.7:5300', '127.0.0.8:5300'] },
    });
    expect(found['policy.dns']).toEqual({ state: 'broken', detail: '127.0.0.7:5300 was reached.' });
    expect(found['policy.metadata']).toEqual({ state: 'broken', detail: '127.0.0.7:5300 was reached.' });
  });

  test('takes a refusal for no proof: packets may have gone through', async () => {
    const found = await probe('', { mode: 'network', targets: { node: ['127.0.0.7:1'] } });
    expect(found['policy.node']).toEqual({ state: 'unknown', detail: '127.0.0.7:1 refused the connection.' });
  });

  test('reaches nothing where there is no route, and where nothing answers', async () => {
    // A wire with nobody at its other end.
    const prepare =
      'ip link add hole type veth peer name end; ip link set end up; ip addr add 192.168.77.1/24 dev hole; ip link set hole up';
    const targets = { internet: ['192.168.77.2:443', '192.168.78.2:443'], api: ['[fd00::1]:443'] };
    const found = await probe(prepare, { mode: 'network', targets });
    expect(found['policy.internet']).toEqual({ state: 'holds', detail: 'None of 2 was reached.' });
    expect(found['policy.api']?.state).toBe('holds');
  });

  test('meets another sandbox where both share a network, a folder or a PID namespace', async () => {
    const peer = { mark: 'canary-one', addresses: ['127.0.0.1'], port: 5301 };
    const prepare = `${WORDS('words')}
mount -t tmpfs shm /dev/shm
printf '%s' '${JSON.stringify({ mode: 'peer', targets: {}, peer: null, mark: 'canary-one', wait_ms: 0 })}' > /mnt/asked
(cd ${dir}; exec ${PYTHON} -B main.py < /mnt/asked > /mnt/words) &
read said <&3
port=$(printf '%s' "$said" | sed 's/.*"port": \\([0-9]*\\).*/\\1/')
ip addr add 127.0.0.1/32 dev lo 2>/dev/null || true`;
    const found = await probe(prepare, { mode: 'sandbox', peer });
    expect(found['sandbox.shared']?.state).toBe('broken');
    for (const what of ['/dev/shm', 'its process', 'its socket'])
      expect(found['sandbox.shared']?.detail).toContain(what);
  });

  test('finds a token, a writable file system, root, capabilities and missing filters', async () => {
    const prepare = `
mount -t tmpfs run /run; mkdir -p /run/secrets/kubernetes.io/serviceaccount
echo secret > /run/secrets/kubernetes.io/serviceaccount/token
mount -t tmpfs home /home
export KUBERNETES_PORT=1`;
    const found = await probe(prepare, { mode: 'sandbox' });
    const broken = Object.keys(found).filter((name) => found[name]?.state === 'broken');
    expect(broken.sort()).toEqual([
      'environment',
      'files.token',
      'files.write',
      'network.sockets',
      'privilege.capabilities',
      'privilege.no_new_privs',
      'privilege.seccomp',
      'privilege.setuid',
      'privilege.user',
    ]);
    expect(found['files.write']?.detail).toContain('/home');
    expect(found['sandbox.shared']?.state).toBe('unknown');
  });

  // Whoever is root has no limit on processes.
  const user =
    process.getuid?.() === 0 ? ['setpriv', '--reuid=65532', '--regid=65532', '--clear-groups'] : [];
  const apart = [
    ...user,
    'unshare',
    '--map-current-user',
    ...APART.filter((flag) => flag !== '--map-root-user'),
  ];
  const PAGES = 'int(open("/proc/self/statm").read().split()[0])';

  test.for([
    ['a pid', 'resource.setrlimit(resource.RLIMIT_NPROC, (40, 40))', /^\(\d\d?, 'pids'\)\n$/],
    [
      'memory',
      `resource.setrlimit(resource.RLIMIT_AS, ((${PAGES} + 1024) * 4096,) * 2)`,
      /^\(\d\d?, 'else'\)\n$/,
    ],
    ['nothing', '', /^\(100, None\)\n$/],
  ] as const)('says that %s was wanting for one thread more', ([, bound, said]) => {
    const source = readFileSync(new URL('probe_limits.py', SOURCES));
    const program = `${source}\nimport resource\n${bound}\nprint(threads(100))`;
    const [command, ...args] = [...apart, PYTHON, '-c', program];
    const { stdout } = spawnSync(command as string, args, { encoding: 'utf8' });
    expect(stdout).toMatch(said);
  });
});
