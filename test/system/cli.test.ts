import { execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { lstat, mkdir, mkdtemp, open, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { AGENT_VARIABLE_NAMES } from '../../agent/config.ts';
import { COMMANDS } from '../../cli/commands.ts';
import type { ResultEvent } from '../../client/types.ts';
import { GATEWAY_VARIABLE_NAMES } from '../../gateway/node/config.ts';
import { MAX_REQUEST_BYTES } from '../../shared/limits.ts';
import { startHttpServer } from '../fakes/http-server.ts';
import { type CommandOptions, podgate, startPodgate } from '../fakes/podgate-command.ts';
import { countRunning } from '../fakes/process-tree.ts';
import { describeStack } from './suite.ts';

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));
const NAMES = Object.keys(COMMANDS);
const FAILED = 125;

const newFolder = async () => {
  const dir = await mkdtemp(join(tmpdir(), 'podgate-cli-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
};

async function listen() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

describe('podgate', () => {
  let dir = '';
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'podgate-cli-'));
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));

  test('lists its commands, and says where there is more', async () => {
    const { status, stdout, stderr } = await podgate(['--help']);
    expect([status, stderr]).toEqual([0, '']);
    for (const name of NAMES) expect(stdout).toMatch(new RegExp(`^ {2}${name} +\\S.{10,}$`, 'm'));
    expect(await podgate([])).toMatchObject({ status: 2, stdout: '', stderr: stdout });
    expect(await podgate(['--version'])).toMatchObject({ status: 0, stdout: '0.5.0\n' });
  });

  test.concurrent.each(NAMES)('%s has a help that a person can read', async (name) => {
    const { status, stdout, stderr } = await podgate([name, '--help']);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(new RegExp(`^Usage: podgate ${name}`));
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(120);
  });

  const errors: [args: string[], env: Record<string, string>, status: number, says: RegExp][] = [
    [['nonsense'], {}, 2, /no command 'nonsense'. 'podgate --help'/],
    [['exec', '-c', '1'], {}, FAILED, /no key: set PODGATE_KEY or PODGATE_KEY_FILE, or start 'podgate dev'/],
    [['exec', '-c', '1'], { PODGATE_URL: 'http://podgate.invalid' }, FAILED, /no key: set PODGATE_KEY/],
    [
      ['exec', '-c', '1'],
      { PODGATE_URL: 'nonsense' },
      FAILED,
      /PODGATE_URL 'nonsense' is not a URL; it looks like/,
    ],
    ...(
      [
        ['http://key:eyJsecret.secret@bad host', /PODGATE_URL 'http:\/\/bad host' is not a URL/],
        ['//key:secret@bad', /PODGATE_URL 'bad' is not a URL/],
        ['http://key:secret@b:eyJsecret@bad\x1bhost', /PODGATE_URL 'http:\/\/bad\\u001bhost' is not a URL/],
        ['http://key:eyJsecret.secret-secret', /PODGATE_URL 'http:\/\/key:…' is not a URL/],
        ['host/?key=secret', /PODGATE_URL 'host\/' is not a URL/],
        ['//key:sec?secret@host#secret', /PODGATE_URL 'host' is not a URL/],
        ['ftp://key:secret@host', /PODGATE_URL is no URL of http or https\n/],
        ['http://key:secret%@host', /PODGATE_URL holds a key with a % that encodes nothing\n/],
      ] as [string, RegExp][]
    ).map(([url, says]): [string[], Record<string, string>, number, RegExp] => [
      ['files', 'list'],
      { PODGATE_URL: url },
      2,
      says,
    ]),
    ...[
      ['exec', '-c', '1'],
      ['files', 'list'],
      ['clusters'],
      ['executions', 'get', 'x'],
      ['sessions', 'list'],
    ].map((args): [string[], Record<string, string>, number, RegExp] => [
      args,
      { PODGATE_KEY: 'x', PODGATE_CLUSER: 'lab' },
      args[0] === 'exec' ? FAILED : 2,
      /: PODGATE_CLUSER is not a name that Podgate knows: did you mean PODGATE_CLUSTER\?\n$/,
    ]),
    [
      ['exec', '-c', '1'],
      { PORT: '65535', PODGATE_KEY: 'x' },
      FAILED,
      /no gateway answers at 127\.0\.0\.1:65535 /,
    ],
    [
      ['exec', '-c', '1'],
      { PORT: '65535', HOST: '127.0.0.2', PODGATE_KEY: 'x' },
      FAILED,
      /no gateway answers at 127\.0\.0\.2:65535 /,
    ],
    [['executions', '-o', 'dir', 'events'], { PODGATE_KEY: 'x' }, FAILED, /give one ID/],
    [['exec', '-c', '1'], { PORT: 'x', PODGATE_KEY: 'x' }, FAILED, /PORT 'x' is no port; set PODGATE_URL/],
    [['exec', '-c', '1'], { PORT: '65536', PODGATE_KEY: 'x' }, FAILED, /PORT '65536' is no port/],
    [['exec', '-c', '1'], { PODGATE_KEY_FILE: '/dev/null' }, FAILED, /PODGATE_KEY_FILE \/dev\/null is empty/],
    [['exec', '-c', '1'], { PODGATE_KEY_FILE: '/none' }, FAILED, /cannot read PODGATE_KEY_FILE \/none/],
    [['exec'], { PODGATE_KEY: 'x' }, FAILED, /give a FILE, '-' or -c CODE/],
    [
      ['exec', '--detach', '-o', 'dir', '-c', '1'],
      { PODGATE_KEY: 'x' },
      FAILED,
      /executions events ID -o DIR/,
    ],
    [['exec', 'none.py'], { PODGATE_KEY: 'x' }, FAILED, /cannot read none.py/],
    [['exec', '--nonsense'], { PODGATE_KEY: 'x' }, FAILED, /'--nonsense'.*'podgate exec --help'/],
    [['exec', '-l', 'cobol', '-c', '1'], { PODGATE_KEY: 'x' }, FAILED, /use python, bash or node/],
    [['exec', '-e', 'X', '-c', '1'], { PODGATE_KEY: 'x' }, FAILED, /-e takes NAME=VALUE/],
    [
      ['exec', '--timeout', '1s', '-c', '1'],
      { PODGATE_KEY: 'x' },
      FAILED,
      /--timeout takes a whole number, not/,
    ],
    [['exec', '-f', 'none', '-c', '1'], { PODGATE_KEY: 'x' }, FAILED, /cannot read none/],
    [['files', 'nonsense'], { PODGATE_KEY: 'x' }, 2, /use upload, list, get or delete/],
    [['files', 'get'], { PODGATE_KEY: 'x' }, 2, /give an ID/],
    ...[
      ['files', 'get', 'x', 'extra'],
      ['files', 'list', 'extra'],
      ['sessions', 'create', 'extra'],
      ['sessions', 'bash', 'x', 'echo', 'extra'],
      ['sessions', 'put', 'x', 'file', 'path', 'extra'],
    ].map((args): [string[], Record<string, string>, number, RegExp] => [
      args,
      { PODGATE_KEY: 'x' },
      args[1] === 'bash' ? FAILED : 2,
      /'extra' is one argument too many: quote what has blanks in it/,
    ]),
    [['files', 'upload', 'none'], { PODGATE_KEY: 'x' }, 2, /cannot read none/],
    [['files', 'upload', '/'], { PODGATE_KEY: 'x' }, 2, /\/ is not a regular file/],
    [['files', '--nonsense'], { PODGATE_KEY: 'x' }, 2, /'podgate files --help'/],
    [['clusters', '--nonsense'], { PODGATE_KEY: 'x' }, 2, /'--nonsense' is no option of clusters/],
    [['dev', '--nonsense'], {}, 2, /'podgate dev --help'/],
    [['dev'], { HOST: '0.0.0.0' }, 2, /HOST 0.0.0.0 is more than this machine.*--allow-remote/],
    [
      ['dev'],
      { PODGATE_DIR: '/dev/null/keys', PORT: '0' },
      2,
      /The folder \/dev\/null\/keys cannot be made \(ENOTDIR\): .* name another folder of keys with PODGATE_DIR/,
    ],
    [
      ['dev', '--allow-remote'],
      { HOST: '203.0.113.9', PORT: '0', PODGATE_DIR: 'elsewhere' },
      1,
      /cannot listen on 203\.0\.113\.9:0: that is no address of this machine \(EADDRNOTAVAIL\)\. Choose another with HOST/,
    ],
    // Pods are made for code of strangers: with them it may listen, and comes as far as the cluster.
    [
      ['dev'],
      {
        HOST: '0.0.0.0',
        PORT: '0',
        PODGATE_DIR: 'pods',
        EXECUTOR_BACKEND: 'kubernetes',
        KUBECONFIG: '/nowhere',
      },
      1,
      /The kubeconfig '\/nowhere' cannot be read/,
    ],
    [
      ['dev'],
      { PORT: '99999', PODGATE_CLUSTR: 'a' },
      1,
      /did you mean PODGATE_CLUSTER\?\nPORT: '99999' is not accepted: use an integer from 0 to 65535/,
    ],
    [
      ['gateway'],
      { PODGATE_PROT: '1', PODGATE_REPLICAS: '0' },
      1,
      /PODGATE_PROT is not a name .*: remove it\.\nPODGATE_ISSUERS is not set: .*podgate keys init.*\n.*use an integer from 1/,
    ],
    [['gateway', '--port', '1'], {}, 2, /configured by its environment/],
    [['agent'], {}, 1, /PODGATE_GATEWAY_URL is not set/],
    [
      ['agent'],
      { PODGATE_GATEWAY_URL: 'http://x', PODGATE_AGENT_TOKN: 'secret' },
      1,
      /did you mean PODGATE_AGENT_TOKEN\?/,
    ],
    [['keys', 'create'], {}, 2, /--sub NAME/],
    [
      ['keys', 'create', '--sub', 'a', '--dir', 'none'],
      {},
      2,
      /no keys in none: make them with 'podgate keys init --dir none'/,
    ],
    [['agents', 'token'], {}, 2, /--cluster/],
  ];
  test('dev that is refused for its settings makes no keys', async () => {
    const folder = join(dir, 'none-made');
    const ended = await podgate(['dev'], { env: { PODGATE_DIR: folder, PORT: '99999' }, cwd: dir });
    expect([ended.status, existsSync(folder)]).toEqual([1, false]);
  });

  test('keys revoke takes no file for an id, which would leave the key in it good', async () => {
    const folder = await newFolder();
    await writeFile(join(folder, 'alice.key'), 'any\n');
    const { status, stdout, stderr } = await podgate(['keys', 'revoke', 'alice.key'], { cwd: folder });
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(
      /alice.key is a file: revoke the key in it with 'podgate keys revoke - < alice.key'/,
    );
  });

  test('dev that cannot write its key says what to do', async () => {
    const folder = join(await newFolder(), 'keys');
    await podgate(['keys', 'init', '--dir', folder]);
    await mkdir(join(folder, 'dev-key'));
    const { status, stderr } = await podgate(['dev'], { env: { PODGATE_DIR: folder, PORT: '0' } });
    expect(status).toBe(2);
    expect(stderr).toMatch(
      /dev-key cannot be replaced \(EISDIR\): .* name another folder of keys with PODGATE_DIR/,
    );
  });

  test.concurrent.each(errors)('%j with %j says what to do', async (args, env, status, says) => {
    const ended = await podgate(args, { env: { PODGATE_DIR: join(dir, 'keys'), ...env }, cwd: dir });
    expect([ended.status, ended.stdout]).toEqual([status, '']);
    expect(ended.stderr).toMatch(says);
    expect(ended.stderr).toMatch(/^podgate(:| \w+:) /);
    expect(ended.stderr).not.toMatch(/\n {4}at |node:|secret/);
  });

  test.for([
    ['SIGINT', 130, ['exec', 'fifo'], {}],
    ['SIGTERM', 143, ['exec', '--stdin', 'fifo', '-c', '1'], {}],
    ['SIGINT', 130, ['exec', '-c', '1'], { PODGATE_KEY_FILE: 'fifo' }],
    ['SIGINT', 130, ['agents', 'token', '--cluster', 'lab', '--public-key', 'fifo'], {}],
    ['SIGINT', 130, ['agent', 'manifest', '--gateway', 'http://x', '--token-file', 'fifo'], {}],
  ] as const)(
    '%s ends the command with %d while it waits for a FIFO: %j',
    async ([signal, status, args, env]) => {
      const cwd = await newFolder();
      await promisify(execFile)('mkfifo', [join(cwd, 'fifo')]);
      const key = Object.keys(env).length === 0 && { PODGATE_KEY: 'x' };
      const command = startPodgate(args, { env: { ...key, ...env }, cwd });
      // It opens once the command has.
      await using _writer = await open(join(cwd, 'fifo'), 'w');
      command.kill(signal);
      expect(await command.ended).toMatchObject({ status, stderr: `podgate ${args[0]}: interrupted\n` });
    },
  );

  test('reads code and keys from a FIFO', async () => {
    const cwd = await newFolder();
    await promisify(execFile)('mkfifo', [join(cwd, 'fifo')]);
    const command = startPodgate(['exec', 'fifo'], { env: { PODGATE_KEY: 'x' }, cwd });
    await writeFile(join(cwd, 'fifo'), new Uint8Array([0xff]));
    expect(await command.ended).toMatchObject({ stderr: 'podgate exec: fifo is not UTF-8\n' });
  });

  test('exec reads no more code or input than a request has room for', async () => {
    const args = (from: string) => [
      ['exec', from],
      ['exec', '--stdin', from, '-c', '1'],
    ];
    for (const [from, name] of [
      ['/dev/zero', '/dev/zero'],
      ['-', 'standard input'],
    ] as const) {
      for (const each of args(from)) {
        const command = startPodgate(each, { env: { PODGATE_KEY: 'x' }, stdin: null });
        command.child.stdin?.write(new Uint8Array(MAX_REQUEST_BYTES + 1));
        expect(await command.ended).toMatchObject({
          status: FAILED,
          stderr: `podgate exec: ${name} is too long: more than ${MAX_REQUEST_BYTES} bytes\n`,
        });
      }
    }
  });

  test.for([
    [['--version'], 1],
    [['--help'], 1],
    [['exec', '--help'], FAILED],
  ] as const)('%j whose output has no room fails with %d and a sentence', async ([args, status]) => {
    await using full = await open('/dev/full', 'w');
    const run = (stderr: number | 'pipe') =>
      spawnSync(process.execPath, [MAIN, ...args], { stdio: ['ignore', full.fd, stderr], encoding: 'utf8' });
    const said = run('pipe');
    expect([said.status, said.stderr]).toEqual([
      status,
      `podgate ${args[0]}: ENOSPC: no space left on device, write\n`,
    ]);
    expect(run(full.fd).status).toBe(status);
  });

  test('names the port that is taken, and the variable that chooses another', async () => {
    const { server, port } = await listen();
    onTestFinished(() => void server.close());
    const { status, stderr } = await podgate(['dev'], {
      env: { PODGATE_DIR: join(await newFolder(), 'keys'), PORT: String(port) },
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(
      new RegExp(`127.0.0.1:${port}: something listens there already. Choose another port with PORT`),
    );
  });

  test('says where nobody answers, and what to do about it', async () => {
    const { server, port } = await listen();
    await new Promise((resolve) => server.close(resolve));
    const env = { PODGATE_URL: `http://127.0.0.1:${port}`, PODGATE_KEY: 'x' };
    const { status, stderr } = await podgate(['exec', '-c', '1'], { env });
    expect([status, stderr]).toEqual([
      FAILED,
      `podgate exec: no gateway answers at 127.0.0.1:${port} (ECONNREFUSED): start 'podgate dev', or set PODGATE_URL to where one is\n`,
    ]);
  });

  test('says so where https:// leads to what speaks no TLS, as a gateway by itself', async () => {
    const { server, port } = await listen();
    server.on('connection', (socket) => socket.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    onTestFinished(() => void server.close());
    const env = { PODGATE_URL: `https://127.0.0.1:${port}`, PODGATE_KEY: 'x' };
    const { status, stderr } = await podgate(['exec', '-c', '1'], { env });
    expect([status, stderr]).toEqual([
      FAILED,
      `podgate exec: no gateway answers (ERR_SSL_WRONG_VERSION_NUMBER): start 'podgate dev', or set PODGATE_URL to where one is\n`,
    ]);
  });
});

describeStack('podgate', { variables: { POOL_SIZE: '3' } }, (stack) => {
  const env = () => ({ PODGATE_URL: stack().url, PODGATE_KEY: stack().ownKey });
  const exec = (args: string[], options: CommandOptions = {}) =>
    podgate(['exec', ...args], { ...options, env: { ...env(), ...options.env } });

  test('exec -c runs code and gives back its output and nothing else', async () => {
    expect(await exec(['-c', 'import sys; print(6 * 7); print("e", file=sys.stderr)'])).toEqual({
      status: 0,
      signal: null,
      stdout: '42\n',
      stderr: 'e\n',
    });
  });

  test('exec --detach prints an id, by which executions shows, tells and cancels', async () => {
    const own = { env: env() };
    const code = 'import time; print("kept", flush=True); time.sleep(0.5); raise SystemExit(3)';
    const { status, stdout } = await exec(['--detach', '-c', code]);
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^[\w.-]{100,}\n$/)]);
    const id = stdout.trim();
    expect(await podgate(['executions', 'events', id], own)).toMatchObject({ status: 3, stdout: 'kept\n' });
    const got = await podgate(['executions', 'get', id], own);
    expect(JSON.parse(got.stdout)).toMatchObject({
      execution_id: id,
      state: 'ended',
      result: { exit_code: 3 },
    });
    const long = (
      await exec(['--detach', '-c', 'import time; time.sleep(60)', '--timeout', '60000'])
    ).stdout.trim();
    expect(await podgate(['executions', 'cancel', long], own)).toMatchObject({ status: 0, stdout: '' });
    const ended = await podgate(['executions', 'events', long], own);
    expect([ended.status, ended.stderr]).toEqual([130, 'podgate: the program was cancelled\n']);
    expect(await podgate(['executions', 'get'], own)).toMatchObject({ status: 2 });
    expect(await podgate(['executions', 'get', 'none'], own)).toMatchObject({ status: 1 });
    for (const wrong of [['none'], [], ['--nonsense']])
      expect(await podgate(['executions', 'events', ...wrong], own)).toMatchObject({ status: FAILED });
  });

  test('exec with --idempotency-key runs once and shows the same twice', async () => {
    const args = ['--idempotency-key', 'cli', '-c', 'import os; print(os.urandom(8).hex())'];
    const shown = [await exec(args), await exec(args)];
    expect(shown[0]).toMatchObject({ status: 0, stdout: expect.stringMatching(/^[0-9a-f]{16}\n$/) });
    expect(shown[1]).toEqual(shown[0]);
  });

  test('exec FILE chooses the language by its ending, and passes what follows to the program', async () => {
    const cwd = await newFolder();
    await writeFile(join(cwd, 'a.py'), 'import sys; print("python", sys.argv[1:])');
    await writeFile(join(cwd, 'a.sh'), 'echo bash "$@"');
    await writeFile(join(cwd, 'a.js'), 'console.log("node", process.argv.slice(2).join())');
    await writeFile(join(cwd, '-x.py'), 'print("dash")');
    expect((await exec(['a.py', '-c', '--help', 'x y'], { cwd })).stdout).toBe(
      "python ['-c', '--help', 'x y']\n",
    );
    expect((await exec(['a.sh', '-l'], { cwd })).stdout).toBe('bash -l\n');
    expect((await exec(['a.js', '--', 'b'], { cwd })).stdout).toBe('node --,b\n');
    expect((await exec(['--', '-x.py'], { cwd })).stdout).toBe('dash\n');
    expect((await exec(['-c', 'import sys; print(sys.argv[1:])', '--', '-c'], { cwd })).stdout).toBe(
      "['-c']\n",
    );
  });

  test('exec - takes the code from standard input, --stdin - its input', async () => {
    expect((await exec(['-'], { stdin: 'print("from stdin")' })).stdout).toBe('from stdin\n');
    const cat = 'import sys; sys.stdout.write(sys.stdin.read())';
    expect((await exec(['--stdin', '-', '-c', cat], { stdin: 'zwölf\n' })).stdout).toBe('zwölf\n');
    expect((await exec(['--stdin', '-', '-'], { stdin: '1' })).stderr).toMatch(/cannot be both/);
    expect(await exec(['-'], { stdin: new Uint8Array([0xff]) })).toMatchObject({
      status: FAILED,
      stderr: expect.stringMatching(/not UTF-8/),
    });
  });

  test('exec passes variables and prints a last value when asked', async () => {
    const code = 'import os; os.environ["A"] + os.environ["B"]';
    expect((await exec(['-e', 'A=1', '-e', 'B=x=y', '--echo-last', '-c', code])).stdout).toBe("'1x=y'\n");
    expect((await exec(['-e', 'A=1', '-e', 'B=2', '-c', code])).stdout).toBe('');
  });

  test.each([
    ['raise SystemExit(3)', [], 3, ''],
    ['import os; os.kill(os.getpid(), 9)', [], 137, ''],
    ['import ctypes; ctypes.string_at(0)', [], 139, ''],
    ['while True: pass', ['--timeout', '200'], 124, 'podgate: the program ran out of time\n'],
    ['x = 1', [], 0, ''],
    [
      '1',
      ['--cluster', 'nowhere'],
      FAILED,
      expect.stringMatching(
        /^podgate exec: No cluster 'nowhere': GET \/v1\/clusters lists .* \(no_cluster, request [\w-]+\)\n$/,
      ),
    ],
    ['1', ['-t', 'none'], FAILED, expect.stringMatching(/no_template/)],
    ['1', ['--timeout', '600000'], FAILED, expect.stringMatching(/timeout_ms exceeds maximum of 60000 ms/)],
  ])('exec ends as the program ends: %s %j', async (code, args, status, stderr) => {
    expect(await exec([...args, '-c', code])).toMatchObject({ status, stderr, stdout: '' });
  });

  test('exec without --timeout gives 30 s, or all that the key may use', async () => {
    const key = await stack().key({ limits: { timeout_ms: 1_500 } });
    const own = { env: { PODGATE_KEY: key } };
    expect(await exec(['-c', 'print(1)'], own)).toMatchObject({ status: 0, stdout: '1\n', stderr: '' });
    const longer = 'import time; time.sleep(2.5); print(1)';
    expect(await exec(['-c', longer])).toMatchObject({ status: 0, stdout: '1\n', stderr: '' });
    expect(await exec(['-c', 'while True: pass'], own)).toMatchObject({ status: 124 });
    expect(await exec(['--detach', '-c', 'print(1)'], own)).toMatchObject({ status: 0, stderr: '' });
    expect(await exec(['--timeout', '1501', '-c', '1'], own)).toMatchObject({
      status: FAILED,
      stderr: expect.stringMatching(/timeout_ms exceeds maximum of 1500 ms/),
    });
  });

  test('exec ends with 137 where memory ran out, and says so', async () => {
    // Memory is looked at ten times a second here: what is full for less may go unseen.
    const code = `import mmap, time
shared = mmap.mmap(-1, 400 << 20)
for at in range(0, 400 << 20, 4096): shared[at] = 1
time.sleep(60)`;
    expect(await exec(['--timeout', '20000', '-c', code])).toMatchObject({
      status: 137,
      stderr: 'podgate: the program ran out of memory\n',
    });
  });

  test('exec prints what comes when it comes', async () => {
    const code = 'import time; print("first"); time.sleep(60)';
    const command = startPodgate(['exec', '--timeout', '30000', '-c', code], { env: env() });
    await command.shows(/^first\n$/);
    expect(command.child.exitCode).toBe(null);
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('exec that gets %s cancels the program', async (signal, status) => {
    const marker = `3${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    const code = `import subprocess; print("begun"); subprocess.run(["sleep", "${marker}"])`;
    const command = startPodgate(['exec', '--timeout', '30000', '-c', code], { env: env() });
    await command.shows(/begun\n/);
    await expect.poll(() => countRunning('sleep', marker), { interval: 2 }).toBe(1);
    command.kill(signal);
    expect(await command.ended).toMatchObject({ status, stderr: 'podgate exec: interrupted\n' });
    await expect.poll(() => countRunning('sleep', marker), { interval: 2 }).toBe(0);
  });

  test.for([
    ['SIGINT', 130, ['-']],
    ['SIGTERM', 143, ['--stdin', '-', '-c', '1']],
  ] as const)('exec that gets %s while its input is open ends', async ([signal, status, args]) => {
    const command = startPodgate(['exec', ...args], { env: env(), stdin: null });
    const { stdin } = command.child;
    // More than waits in a pipe: it reads by then.
    await new Promise((resolve) => stdin?.write('#'.repeat(4 << 20), resolve));
    command.kill(signal);
    expect(await command.ended).toMatchObject({ status, stderr: 'podgate exec: interrupted\n' });
  });

  test('exec whose reader leaves ends, and the program with it', async () => {
    const code = 'import time\nwhile True: print("line"); time.sleep(0.01)';
    const command = startPodgate(['exec', '--timeout', '30000', '-c', code], { env: env() });
    await command.shows(/line/);
    command.child.stdout?.destroy();
    expect(await command.ended).toMatchObject({ status: 141, stderr: '' });
    await expect.poll(() => stack().agents[0]?.status().running, { interval: 5 }).toBe(0);
  });

  test('exec --detach whose id nobody reads leaves nothing that runs on', async () => {
    const command = startPodgate(['exec', '--detach', '-c', 'import time; time.sleep(60)'], { env: env() });
    command.child.stdout?.destroy();
    expect(await command.ended).toMatchObject({ status: 141, stderr: '' });
    await expect.poll(() => stack().agents[0]?.status().running, { interval: 5 }).toBe(0);
  });

  test('exec whose errors nobody reads shows what it prints all the same', async () => {
    const code =
      'import sys, time\nsys.stderr.write("lost\\n"); sys.stderr.flush(); time.sleep(0.2); print("kept")';
    const command = startPodgate(['exec', '-c', code], { env: env() });
    command.child.stderr?.destroy();
    expect(await command.ended).toMatchObject({ status: 0, stdout: 'kept\n' });
  });

  test('exec -f stages files and -o saves what the program made', async () => {
    const cwd = await newFolder();
    await writeFile(join(cwd, 'in.txt'), 'content');
    await writeFile(join(cwd, 'Отчёт.txt'), 'report');
    const code = `
import os, shutil
os.makedirs("out/deep")
open("out/deep/made.txt", "w").write(open("in.txt").read() + open("as/other").read())
open(".env", "w").write("A=1")
os.symlink("/etc/passwd", "out/link")
`;
    const ended = await exec(['-f', 'in.txt', '-f', 'Отчёт.txt=as/other', '-o', 'saved', '-c', code], {
      cwd,
    });
    expect(ended).toMatchObject({ status: 0, stdout: '' });
    expect(ended.stderr.split('\n').sort()).toEqual([
      '',
      'podgate: saved .env',
      'podgate: saved out/deep/made.txt',
    ]);
    expect(await readFile(join(cwd, 'saved/out/deep/made.txt'), 'utf8')).toBe('contentreport');
    expect(await readFile(join(cwd, 'saved/.env'), 'utf8')).toBe('A=1');
    expect((await readdir(join(cwd, 'saved'), { recursive: true })).sort()).toEqual([
      '.env',
      'out',
      'out/deep',
      'out/deep/made.txt',
    ]);
    await writeFile(join(cwd, 'a=b'), 'equal');
    const shown = 'print(open("a=b").read(), open("c=d").read())';
    expect(await exec(['-f', '"a=b"', '-f', '"a=b"=c=d', '-c', shown], { cwd })).toMatchObject({
      stdout: 'equal equal\n',
    });
    expect(await exec(['-f', 'in.txt=../up', '-c', '1'], { cwd })).toMatchObject({
      status: FAILED,
      stderr: expect.stringMatching(/must not contain '\.\.'/),
    });
  });

  test('exec --rich prints a last value, and with -o saves its other forms', async () => {
    const cwd = await newFolder();
    const shown = `
class Shown:
    def _repr_html_(self): return "<b>é</b>"
    def _repr_png_(self): return b"\\x89PNG"
    def _repr_mimebundle_(self): return {"application/vnd.plot.v1+json": {"data": [1]}}
    def __repr__(self): return "shown"
open("result-1.html", "w").write("the program's own")
Shown()`;
    const ended = await exec(['--rich', '-o', 'saved', '-c', shown], { cwd });
    expect(ended).toMatchObject({ status: 0, stdout: 'shown\n' });
    const saved = (name: string) => readFile(join(cwd, 'saved', name));
    expect((await readdir(join(cwd, 'saved'))).sort()).toEqual([
      'result-1-2.html',
      'result-1.html',
      'result-1.json',
      'result-1.png',
    ]);
    expect((await saved('result-1.json')).toString()).toBe('{"data":[1]}');
    expect((await saved('result-1-2.html')).toString()).toBe('<b>é</b>');
    expect((await saved('result-1.html')).toString()).toBe("the program's own");
    expect([...(await saved('result-1.png'))]).toEqual([0x89, 0x50, 0x4e, 0x47]);
    const unsaved = await exec(['--rich', '-c', shown], { cwd });
    expect(unsaved.stdout).toBe('shown\n');
    expect(unsaved.stderr).toContain('podgate: result 1 as text/html: give -o DIR to save it\n');
    expect((await exec(['--rich', '-l', 'bash', '-c', 'true'])).stderr).toContain('rich is for python');
  });

  test('exec gives output back as it is, and says where it was cut', async () => {
    const made = await exec(['-c', 'import sys\nfor _ in range(9): sys.stdout.write("é" * 50_000)\n']);
    expect(made.stdout).toBe('é'.repeat(450_000));
    const cut = await exec(['-c', 'print("x" * 2_000_000)']);
    expect([cut.status, cut.stdout.length, cut.stderr]).toEqual([
      0,
      1_000_000,
      'podgate: output was cut: 2000001 bytes of stdout, 0 of stderr in all\n',
    ]);
  });

  test('files go up, are listed, come down and are deleted', async () => {
    const cwd = await newFolder();
    const content = Buffer.from(Array.from({ length: 70_000 }, (_, index) => index % 251));
    await writeFile(join(cwd, 'data.bin'), content);
    const up = await podgate(['files', 'upload', 'data.bin'], { env: env(), cwd });
    const [, id = ''] = /^([0-9a-f-]{36}) {2}data\.bin\n$/.exec(up.stdout) ?? [];
    expect(id).not.toBe('');
    const listed = await podgate(['files', 'list'], { env: env() });
    expect(listed.stdout).toMatch(new RegExp(`^${id} {2}\\d{4}-\\S+Z +70000  data\\.bin$`, 'm'));
    expect((await podgate(['files', 'get', id, '-o', 'back/copy.bin'], { env: env(), cwd })).status).toBe(0);
    expect(Buffer.compare(await readFile(join(cwd, 'back/copy.bin')), content)).toBe(0);
    expect(await podgate(['files', 'delete', id], { env: env() })).toMatchObject({ status: 0, stdout: '' });
    const missing = await podgate(['files', 'get', id], { env: env() });
    expect([missing.status, missing.stderr]).toEqual([
      1,
      expect.stringContaining(`File with ID '${id}' not found`),
    ]);
  });

  test('files get whose reader leaves says so by its status, as exec does', async () => {
    const { url } = await startHttpServer((_request, response) => {
      const more = (error?: Error | null) => {
        if (!error) response.write('x'.repeat(65_536), more);
      };
      more();
    });
    const command = startPodgate(['files', 'get', 'id'], { env: { PODGATE_URL: url, PODGATE_KEY: 'x' } });
    await command.shows(/x/);
    command.child.stdout?.destroy();
    expect(await command.ended).toMatchObject({ status: 141, stderr: '' });
  });

  test('clusters lists what the key may use, for people and for programs', async () => {
    const { stdout } = await podgate(['clusters'], { env: env() });
    expect(stdout).toMatch(
      /^local {2}local {2}ready {2}agents 1\n {2}default {2}python,bash,node {2}\d\/3 free {2}single_use {2}network none\n$/,
    );
    const json = await podgate(['clusters', '--json'], { env: env() });
    expect(JSON.parse(json.stdout)).toMatchObject([{ name: 'local' }]);
    const key = await stack().key({ scopes: ['execute'] });
    const refused = await podgate(['clusters'], { env: { ...env(), PODGATE_KEY: key } });
    expect([refused.status, refused.stderr]).toEqual([1, expect.stringMatching(/forbidden/)]);
  });

  test('asks a gateway on a machine that has the names of servers set, and of a Service of Kubernetes', async () => {
    const servers = Object.fromEntries(
      [...GATEWAY_VARIABLE_NAMES, ...AGENT_VARIABLE_NAMES]
        .filter((name) => name.startsWith('PODGATE_') && !(name in env()))
        .map((name) => [name, name === 'PODGATE_CLUSTER' ? 'local' : 'set']),
    );
    const service = { PODGATE_SERVICE_HOST: '10.0.0.1', PODGATE_GATEWAY_PORT: 'tcp://10.0.0.1:8000' };
    expect(Object.keys(servers)).toContain('PODGATE_ISSUERS');
    const given = { env: { ...servers, ...service } };
    expect(await exec(['-c', 'print(1)'], given)).toMatchObject({ status: 0, stdout: '1\n', stderr: '' });
  });

  test('a key file of podgate dev that is empty is no key', async () => {
    const dir = await newFolder();
    await writeFile(join(dir, 'dev-key'), '\n');
    const { status, stderr } = await podgate(['clusters'], {
      env: { PODGATE_URL: stack().url, PODGATE_DIR: dir },
    });
    expect([status, stderr]).toEqual([2, expect.stringContaining('no key: set PODGATE_KEY')]);
  });

  test('takes its key from a file or from the URL, and the development key for this machine alone', async () => {
    const dir = await newFolder();
    await writeFile(join(dir, 'dev-key'), `${stack().ownKey}\n`);
    const url = new URL(stack().url);
    const code = ['exec', '-c', 'print(1)'];
    for (const each of [
      { PODGATE_URL: stack().url, PODGATE_KEY_FILE: join(dir, 'dev-key') },
      { PODGATE_URL: stack().url, PODGATE_DIR: dir },
      { PODGATE_URL: `http://key:${stack().ownKey}@${url.host}` },
      { PODGATE_URL: `http://${stack().ownKey}@${url.host}` },
    ])
      expect(await podgate(code, { env: each })).toMatchObject({ status: 0, stdout: '1\n' });
    const elsewhere = await podgate(code, {
      env: { PODGATE_URL: 'http://podgate.invalid', PODGATE_DIR: dir },
    });
    expect(elsewhere).toMatchObject({
      status: FAILED,
      stderr: 'podgate exec: no key: set PODGATE_KEY or PODGATE_KEY_FILE\n',
    });
  });
});

describe('podgate exec -o, told by a hostile server,', () => {
  const result = (paths: string[]): ResultEvent => ({
    type: 'result',
    exit_code: 0,
    timed_out: false,
    duration_ms: 1,
    files: paths.map((path, index) => ({ path, kind: 'file', file_id: String(index) })),
    execution_id: 'x',
    cluster: 'c',
    outcome: 'exited',
    signal: null,
    stdout_bytes: 0,
    stderr_bytes: 0,
    stdout_truncated: false,
    stderr_truncated: false,
    queue_ms: 0,
    cpu_ms: 0,
    peak_memory_bytes: 0,
    files_omitted: [{ path: 'omitted\x1b[2J', reason: 'too_large\u202e' }],
    files_omitted_count: 3,
  });
  const save = async (paths: string[], cwd: string, fileBody = 'evil') => {
    const { url } = await startHttpServer((request, response) => {
      if (request.method === 'GET') return response.end(fileBody);
      response.setHeader('content-type', 'text/event-stream');
      return response.end(`event: result\ndata: ${JSON.stringify(result(paths))}\n\n`);
    });
    return podgate(['exec', '-o', 'saved', '-c', '1'], { env: { PODGATE_URL: url, PODGATE_KEY: 'x' }, cwd });
  };

  test.each([
    ['/tmp/podgate-evil', /absolute/],
    ['../evil', /contains '\.\.'/],
    ['a/../../evil', /contains '\.\.'/],
    ['..', /contains '\.\.'/],
    ['', /empty part/],
    ['.', /empty part/],
    ['a//b', /empty part/],
    ['./evil', /empty part/],
    ['a\0b', /NUL/],
    [`${'d/'.repeat(300)}e`, /too deep/],
  ])('refuses to save %j, and writes nothing', async (path, why) => {
    const cwd = await newFolder();
    const { status, stderr } = await save([path], cwd);
    expect([status, stderr]).toEqual([FAILED, expect.stringMatching(why)]);
    const made = (await readdir(cwd, { recursive: true, withFileTypes: true })).filter(
      (entry) => !entry.isDirectory(),
    );
    expect(made).toEqual([]);
    await expect(lstat('/tmp/podgate-evil')).rejects.toThrow();
    await expect(lstat(join(cwd, '../evil'))).rejects.toThrow();
  });

  test('follows no link that lies in the way or at the end', async () => {
    const cwd = await newFolder();
    await mkdir(join(cwd, 'saved'));
    await mkdir(join(cwd, 'outside'));
    await writeFile(join(cwd, 'outside/target'), 'kept');
    await symlink(join(cwd, 'outside'), join(cwd, 'saved/dir'));
    await symlink(join(cwd, 'outside/target'), join(cwd, 'saved/file'));
    expect(await save(['dir/evil'], cwd)).toMatchObject({
      status: FAILED,
      stderr: expect.stringMatching(/is no folder/),
    });
    expect(await save(['file'], cwd)).toMatchObject({
      status: FAILED,
      stderr: expect.stringMatching(/no regular file/),
    });
    expect(await readdir(join(cwd, 'outside'))).toEqual(['target']);
    expect(await readFile(join(cwd, 'outside/target'), 'utf8')).toBe('kept');
  });

  test('escapes control characters of names and reasons', async () => {
    const cwd = await newFolder();
    const { status, stderr } = await save(['a\x1b[31m\u202eb'], cwd);
    expect(status).toBe(0);
    expect(stderr).toBe(
      'podgate: saved a\\u001b[31m\\u202eb\npodgate: omitted\\u001b[2J was not kept: too_large\\u202e\npodgate: 2 more files were not kept\n',
    );
    expect(await readdir(join(cwd, 'saved'))).toEqual(['a\x1b[31m\u202eb']);
  });

  test('saves what can be saved, then says what could not, also by its status', async () => {
    const cwd = await newFolder();
    const absent = `${'x'.repeat(300)}`;
    const { status, stderr } = await save(['../evil', 'first', absent, 'last', '..'], cwd);
    expect([status, await readdir(join(cwd, 'saved'))]).toEqual([FAILED, ['first', 'last']]);
    expect(stderr.split('\n')).toEqual([
      'podgate: saved first',
      'podgate: saved last',
      'podgate: omitted\\u001b[2J was not kept: too_large\\u202e',
      'podgate: 2 more files were not kept',
      "podgate: refusing to save '../evil': the path contains '..'",
      expect.stringMatching(/^podgate: x{300} was not saved: ENAMETOOLONG: /),
      "podgate: refusing to save '..': the path contains '..'",
      '',
    ]);
  });

  test('lets go of what it refuses to save', async () => {
    const cwd = await newFolder();
    let open = 0;
    const { url } = await startHttpServer((request, response) => {
      if (request.method === 'GET') {
        open += 1;
        response.once('close', () => {
          open -= 1;
        });
        // Larger than what is on its way where nobody reads.
        return request.url?.endsWith('/50') ? response.end(String(open)) : response.end('x'.repeat(8 << 20));
      }
      response.setHeader('content-type', 'text/event-stream');
      const paths = [...Array.from({ length: 50 }, () => '../evil'), 'open'];
      return response.end(`event: result\ndata: ${JSON.stringify(result(paths))}\n\n`);
    });
    await podgate(['exec', '-o', 'saved', '-c', '1'], { env: { PODGATE_URL: url, PODGATE_KEY: 'x' }, cwd });
    expect(Number(await readFile(join(cwd, 'saved/open'), 'utf8'))).toBeLessThan(5);
  });

  test('leaves no half of a file behind when the server breaks off', async () => {
    const cwd = await newFolder();
    const { url } = await startHttpServer((request, response) => {
      if (request.method === 'GET') {
        response.setHeader('content-length', '1000');
        response.write('half');
        return setImmediate(() => response.destroy());
      }
      response.setHeader('content-type', 'text/event-stream');
      return response.end(`event: result\ndata: ${JSON.stringify(result(['made']))}\n\n`);
    });
    const ended = await podgate(['exec', '-o', 'saved', '-c', '1'], {
      env: { PODGATE_URL: url, PODGATE_KEY: 'x' },
      cwd,
    });
    expect(ended.status).toBe(FAILED);
    expect(await readdir(join(cwd, 'saved'))).toEqual([]);
  });

  test('escapes what a failed answer says', async () => {
    const { url } = await startHttpServer((_request, response) => {
      response.writeHead(404, { 'content-type': 'application/problem+json' });
      const said = { code: 'not\x1b[2J', detail: 'gone\x1b]0;title\x07\n', request_id: 'id\x9b31m' };
      response.end(JSON.stringify(said));
    });
    const { stderr } = await podgate(['exec', '-c', '1'], { env: { PODGATE_URL: url, PODGATE_KEY: 'x' } });
    expect(stderr).toBe(
      'podgate exec: gone\\u001b]0;title\\u0007\\u000a (not\\u001b[2J, request id\\u009b31m)\n',
    );
  });
});

describe('podgate, told by any server,', () => {
  test('escapes what clusters, sessions, executions and files are called', async () => {
    const evil = 'a\x1b[2J\x9b31m\u202e';
    const template = { name: evil, languages: [evil], reuse: evil, network: evil };
    const said: Record<string, object> = {
      '/v1/clusters': {
        clusters: [
          {
            ...{ name: evil, backend: evil, state: evil, detail: evil, instances: [] },
            templates: [{ ...template, trouble: { code: evil, detail: evil } }],
          },
        ],
        next_cursor: null,
      },
      '/v1/sessions': {
        session_id: evil,
        sessions: [{ session_id: evil, cluster: evil, template: evil, expires_at: 0, running: 0 }],
        next_cursor: null,
      },
      '/v1/executions/x': { failure: { detail: evil } },
      '/v1/files': {
        ...{ file_id: evil, filename: evil },
        files: [{ file_id: evil, filename: evil, size_bytes: 1, upload_time: 0 }],
        next_cursor: null,
      },
    };
    const { url } = await startHttpServer((request, response) =>
      response.end(JSON.stringify(said[new URL(request.url ?? '', 'http://a').pathname])),
    );
    for (const args of [
      ['clusters'],
      ['clusters', '--json'],
      ['sessions', 'list'],
      ['sessions', 'create'],
      ['executions', 'get', 'x'],
      ['files', 'list'],
      ['files', 'upload', MAIN],
    ]) {
      const { status, stdout } = await podgate(args, { env: { PODGATE_URL: url, PODGATE_KEY: 'x' } });
      expect([args, status, stdout]).toEqual([
        args,
        0,
        expect.stringContaining('a\\u001b[2J\\u009b31m\\u202e'),
      ]);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
      expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    }
  });

  test('lists clusters to the last page', async () => {
    const cluster = { backend: 'local', state: 'ready', detail: null, instances: [], templates: [] };
    const { url } = await startHttpServer((request, response) => {
      const isSecond = request.url?.includes('cursor=one');
      const clusters = [{ name: isSecond ? 'two' : 'one', ...cluster }];
      response.end(JSON.stringify({ clusters, next_cursor: isSecond ? null : 'one' }));
    });
    const asked = { env: { PODGATE_URL: url, PODGATE_KEY: 'x' } };
    expect((await podgate(['clusters'], asked)).stdout).toMatch(/^one .*\ntwo .*\n$/);
    expect(JSON.parse((await podgate(['clusters', '--json'], asked)).stdout)).toHaveLength(2);
  });
});
