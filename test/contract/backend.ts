import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, onTestFinished, type TestContext, test } from 'vitest';
import type { Backend, Sandbox } from '../../agent/backends/backend.ts';
import { createRunnerClient, type RunnerClient, type RunnerClientDeps } from '../../agent/runner/client.ts';
import type { Ready } from '../../agent/runner/messages.ts';
import type { RunnerExecution } from '../../agent/runner/runner-execution.ts';
import { RUNNER_GRACE_MS } from '../../shared/limits.ts';
import { parseTemplate, type TemplateInput } from '../../shared/template.ts';
import { type Ran, type RunOptions, runOn } from '../fakes/runner-run.ts';
import { AGAINST_OTHERS, FILES, PRIVILEGES, SOCKETS } from './hostile-code.ts';
import { alive, strays } from './strays.ts';

const MIB = 1_048_576;
const FORKS = 'import os\nwhile True:\n  try: os.fork()\n  except OSError: pass';
const CREATE_TIMEOUT_MS = 60_000;
/** From Linux 6.12 on. */
const SIGNALS_SCOPED_ABI = 6;
/** Folders of a distribution's image that hold nothing of the node. */
const OF_AN_IMAGE = ['/etc/ssh', '/var/lib', '/var/log'];

export type BackendContractOptions = {
  /** Why it cannot be tried here; undefined where it can. */
  trouble?: string | undefined;
  /** Template members that this backend needs, such as an image. */
  template?: Partial<TemplateInput>;
  /** The sandboxes' processes are among this machine's own: their end can be seen. */
  onThisMachine: boolean;
  /** A sandbox has no network device but its loopback. */
  noDevices: boolean;
  /** The sandbox's root is an image's: what it lets everybody read is its own. */
  imageRoot?: boolean;
  /** A control group gives each sandbox a share of the processor: nothing else is late for what one does in it. */
  ownProcessor?: boolean;
  /** Its file systems hold as many files as memory allows. */
  endlessFiles?: boolean;
};

type Open = {
  sandbox: Sandbox;
  client: RunnerClient;
  ready: Ready;
  run(code: string, options?: RunOptions): Promise<Ran>;
  /** For an execution whose stream is lost: over a new one, as an agent does it. */
  goOn: NonNullable<RunOptions['onLost']>;
};

/** What every backend keeps. Hostile programs look first whether they are in a sandbox at all, and stop where not. */
export function backendContract(
  name: string,
  makeBackend: () => Promise<Backend>,
  options: BackendContractOptions,
): void {
  describe(`${name}: a sandbox`, () => {
    let backend: Backend;
    beforeAll(async () => {
      if (options.trouble === undefined) backend = await makeBackend();
    });
    afterAll(() => backend?.close());

    const soon = () => AbortSignal.timeout(CREATE_TIMEOUT_MS);

    async function create(input: Partial<TemplateInput> = {}): Promise<Sandbox> {
      const template = await parseTemplate({ name: 'contract', ...options.template, ...input });
      const sandbox = await backend.create(template, soon());
      onTestFinished(() => backend.destroy(sandbox));
      return sandbox;
    }

    async function open(input: Partial<TemplateInput> = {}): Promise<Open> {
      const sandbox = await create(input);
      const attach = async (epoch: number, resume: RunnerClientDeps['resume'] = []) => {
        const made = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch, resume });
        onTestFinished(() => made.close());
        return made;
      };
      let client = await attach(1);
      const ready = await client.ready;
      const goOn: Open['goOn'] = async (checkpoint, handlers) => {
        client = await attach(client.epoch + 1, [{ checkpoint, handlers }]);
        const [execution] = client.resumed as readonly [RunnerExecution];
        execution.window(MIB);
        return execution;
      };
      let last = 0;
      const run = (code: string, runOptions: RunOptions = {}) => {
        last += 1;
        return runOn(client, last, code, { lastLine: false, ...runOptions });
      };
      return {
        sandbox,
        get client() {
          return client;
        },
        ready,
        run,
        goOn,
      };
    }

    async function json(opened: Open, code: string, runOptions: RunOptions = {}): Promise<unknown> {
      const ran = await opened.run(code, runOptions);
      try {
        return JSON.parse(ran.stdout);
      } catch {
        throw new Error(
          `it printed ${JSON.stringify(ran.stdout)}, ${ran.stderr} and ended as ${JSON.stringify(ran.exit)}`,
        );
      }
    }

    const kept = (title: string, body: (context: TestContext) => Promise<void>) =>
      test(title, async (context) => {
        context.skip(options.trouble !== undefined, options.trouble);
        await body(context);
      });

    kept('is made, connected to, used, listed and destroyed', async () => {
      const { sandbox, client, ready, run } = await open();
      expect(ready).toMatchObject({ ok: true, missing: [], preload_failed: [] });
      expect(sandbox).toMatchObject({ template: 'contract', createdAtMs: expect.any(Number) });
      expect(await backend.list()).toContainEqual(sandbox);
      expect((await run('print(6 * 7)')).stdout).toBe('42\n');
      await backend.destroy(sandbox);
      expect((await client.closed).code).toBe('sandbox_lost');
      expect(await backend.list()).not.toContainEqual(sandbox);
      await backend.destroy(sandbox);
    });

    kept('carries the hash of its template', async () => {
      const [one, same, other] = [
        await create(),
        await create(),
        await create({ resources: { memory_mb: 99 } }),
      ];
      expect(one.templateHash).toBe(same.templateHash);
      expect(one.templateHash).not.toBe(other.templateHash);
      expect(new Set([one.id, same.id, other.id]).size).toBe(3);
    });

    kept('is not made for who has gone', async () => {
      const before = await backend.list();
      const template = await parseTemplate({ name: 'contract', ...options.template });
      await expect(backend.create(template, AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
      expect(await backend.list()).toEqual(before);
    });

    kept('with an interpreter that is not there says so', async () => {
      const failure = create({ python: '/nonexistent/python3' });
      await expect(failure).rejects.toMatchObject({ name: 'Failure', retryable: true });
    });

    kept('gives back the files of a workspace that its program closed', async () => {
      const { run } = await open();
      const ran = await run(
        'import os\nos.mkdir("d")\nfor p in ("a", "d/b"): open(p, "w").write(p)\nos.chmod("d", 0)\nos.chmod(".", 0)',
      );
      const omitted = ran.exit.result?.files_omitted.map(({ path }) => path) ?? [];
      expect([...ran.files.keys(), ...omitted].sort()).toEqual(['a', 'd/b']);
    });

    for (const reuse of ['single_use', 'reset'] as const) {
      describe(`with reuse ${reuse}`, () => {
        kept('gives no privilege and no way to one', async () => {
          const found = (await json(await open({ reuse }), PRIVILEGES)) as Record<string, unknown>;
          expect(found).toMatchObject({ capabilities: [''], no_new_privs: '1', seccomp: '2', got: [] });
          expect(found.uids).toHaveLength(1);
          expect(found.uids).not.toContain('0');
          expect(found.gids).not.toContain('0');
        });

        kept('can be written to only in its own file systems, and shows nothing of its host', async () => {
          const input = { reuse, resources: { workspace_mb: 8, tmp_mb: 6 } };
          const found = (await json(await open(input), FILES)) as Record<string, unknown>;
          expect(found).toMatchObject({
            writable: ['/dev/shm', '/tmp', found.cwd as string],
            sizes: { [found.cwd as string]: 8 * MIB, '/tmp': 6 * MIB },
          });
          const own = options.imageRoot ? OF_AN_IMAGE : [];
          expect((found.readable as string[]).filter((path) => !own.includes(path))).toEqual([]);
        });

        kept('has a disk that ends', async () => {
          const opened = await open({ reuse, resources: { workspace_mb: 4, file_mb: 64 } });
          const code = `
import errno, os
try:
    with open('fill', 'wb', buffering=0) as file:
        for _ in range(64): file.write(bytes(1 << 20))
except OSError as error: print(errno.errorcode[error.errno])
os.unlink('fill')
try:
    for index in range(${options.endlessFiles ? 0 : 1 << 20}): open('n%d' % index, 'w').close()
except OSError as error: print(errno.errorcode[error.errno])
`;
          const ran = await opened.run(code, { collect: false });
          expect(ran.stdout).toBe(options.endlessFiles ? 'ENOSPC\n' : 'ENOSPC\nENOSPC\n');
        });

        kept('opens no socket but AF_UNIX', async () => {
          const found = (await json(await open({ reuse }), SOCKETS)) as Record<string, unknown>;
          expect(found.families).toEqual([1]);
          if (options.noDevices) expect(found.devices).toEqual(['lo']);
        });

        kept('cannot be harmed from inside', async () => {
          const opened = await open({ reuse });
          // Below it the kernel keeps no signal from what entered from outside.
          const mayLose =
            backend.reconnects && (opened.ready.features.landlock_abi ?? 0) < SIGNALS_SCOPED_ABI;
          const lossy = mayLose ? { onLost: opened.goOn } : {};
          const found = (await json(opened, AGAINST_OTHERS, lossy)) as {
            others: number;
            entered: number[];
            got: string[];
          };
          // What entered from outside only holds the stream open: one that is lost is replaced.
          const isShim = (got: string) =>
            backend.reconnects && found.entered.some((pid) => got.endsWith(` ${pid}`));
          expect(found.got.filter((got) => !isShim(got))).toEqual([]);
          // Where executions share the sandbox, runner and zygote were there to be attacked.
          expect(found.others).toBeGreaterThanOrEqual(
            backend.freshPerExecution && reuse === 'single_use' ? 1 : 2,
          );
          expect((await opened.client.ping(soon())).processes).toBe(0);
          if (reuse === 'reset')
            expect(await opened.client.reset(soon())).toEqual({ ok: true, leftovers: [] });
          expect((await opened.run('print("still here")')).stdout).toBe('still here\n');
        });

        kept('sees no process of anybody else', async () => {
          const opened = await open({ reuse });
          const code = `
import os
for name in os.listdir('/proc'):
    if name.isdigit() and int(name) != os.getpid(): print(open('/proc/%s/cmdline' % name).read().split('\\0')[:3])
print(os.getpid() < 100)
`;
          const { stdout } = await opened.run(code);
          const lines = stdout.trimEnd().split('\n');
          expect(lines.pop()).toBe('True');
          // Runner and zygote, and what holds a stream open that can be replaced.
          expect(lines.length).toBeLessThanOrEqual(backend.reconnects ? 3 : 2);
          expect(stdout).not.toMatch(/vitest|node|unshare/);
        });

        kept('has none of its maker’s environment', async () => {
          process.env.PODGATE_CONTRACT_SECRET = 'contract-secret';
          onTestFinished(() => void delete process.env.PODGATE_CONTRACT_SECRET);
          const opened = await open({ reuse });
          const { stdout } = await opened.run('import os; print(os.environ)');
          expect(stdout).not.toMatch(/contract-secret|PODGATE|NODE|VITEST|npm_/);
        });

        kept('leaves nothing alive when it is destroyed in the middle', async (context) => {
          context.skip(!options.onThisMachine, 'its processes are on another machine');
          const marker = `3${Math.floor(Math.random() * 1e9)}`;
          const opened = await open({ reuse });
          const began = Promise.withResolvers<void>();
          const lost = opened.run(strays(marker), { onData: () => began.resolve() });
          lost.catch(() => {});
          await began.promise;
          expect(alive(marker)).toBeGreaterThanOrEqual(3);
          await backend.destroy(opened.sandbox);
          await expect(lost).rejects.toMatchObject({ code: 'sandbox_lost', started: 'yes' });
          await expect.poll(() => alive(marker), { interval: 5, timeout: 5_000 }).toBe(0);
        });
      });
    }

    kept('shares nothing with another one', async () => {
      const [one, two] = [await open({ reuse: 'reset' }), await open({ reuse: 'reset' })];
      const left = randomUUID();
      const leave = `
import os, socket, sys, time
for place in ('.', '/tmp', '/dev/shm'): open(os.path.join(place, '${left}'), 'w').close()
listening = socket.socket(socket.AF_UNIX)
listening.bind('\\0${left}')
listening.listen()
print('left', flush=True)
time.sleep(30)
`;
      const look = `
import os, socket
print([place for place in ('.', '/tmp', '/dev/shm') if os.path.exists(os.path.join(place, '${left}'))])
try: socket.socket(socket.AF_UNIX).connect('\\0${left}'); print('connected')
except OSError: print('refused')
print(len([name for name in os.listdir('/proc') if name.isdigit()]) <= 4)
`;
      const began = Promise.withResolvers<RunnerExecution>();
      const leaving = one.run(leave, { onData: (execution) => began.resolve(execution) });
      const execution = await began.promise;
      expect((await two.run(look)).stdout).toBe('[]\nrefused\nTrue\n');
      execution.cancel('seen');
      const ended = await leaving;
      expect(ended).toMatchObject({ stdout: 'left\n', stderr: '' });
      expect(ended.result.outcome).toBe('cancelled');
    });

    kept(
      'without the runner’s filter keeps everything else: it is how the network itself is tried',
      async () => {
        const template = await parseTemplate({ name: 'contract', ...options.template });
        const sandbox = await backend.create(template, soon(), { unfiltered: true });
        onTestFinished(() => backend.destroy(sandbox));
        expect(sandbox.templateHash).toBe(template.hash);
        const client = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch: 1 });
        onTestFinished(() => client.close());
        expect(await client.ready).toMatchObject({ ok: true });
        const sockets = JSON.parse((await runOn(client, 1, SOCKETS, { lastLine: false })).stdout);
        expect(sockets.families).toContain(2);
        if (options.noDevices) expect(sockets.devices).toEqual(['lo']);
        const found = JSON.parse((await runOn(client, 2, PRIVILEGES, { lastLine: false })).stdout);
        expect(found).toMatchObject({ capabilities: [''], no_new_privs: '1', seccomp: '2', got: [] });
      },
    );

    kept(
      'single_use leaves nothing to the next execution, where it serves more than one',
      async (context) => {
        context.skip(!backend.freshPerExecution, 'each execution has a sandbox of its own');
        const opened = await open({ reuse: 'single_use' });
        const leave = `
import os, sys
for place in ('.', '/tmp', '/dev/shm'): open(os.path.join(place, 'left'), 'w').write(str(os.getpid()))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time, signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for fd in range(3): os.close(fd)
        time.sleep(60)
    os._exit(0)
print(os.stat('/proc/self/ns/pid').st_ino)
`;
        const look = `
import os
print([os.path.join(place, 'left') for place in ('.', '/tmp', '/dev/shm') if os.path.exists(os.path.join(place, 'left'))])
print(sorted(int(name) for name in os.listdir('/proc') if name.isdigit())[:1], len(os.listdir('.')) <= 1)
print(os.stat('/proc/self/ns/pid').st_ino)
`;
        const first = await opened.run(leave, { collect: false });
        const [files, processes, namespace] = (await opened.run(look)).stdout.trimEnd().split('\n');
        expect(files).toBe('[]');
        expect(processes).toBe('[1] True');
        expect(namespace).not.toBe(first.stdout.trim());
      },
    );

    kept('outlives a program that forks without end, which is ended within its runner’s grace', async () => {
      const opened = await open({ reuse: 'reset' });
      const timeoutMs = 3_000;
      const ran = await opened.run(FORKS, { timeoutMs });
      expect(ran.result).toMatchObject({ outcome: 'timed_out', exit_code: null });
      if (options.ownProcessor) expect(ran.result.duration_ms).toBeLessThan(timeoutMs + RUNNER_GRACE_MS);
      expect(await opened.client.reset(soon())).toEqual({ ok: true, leftovers: [] });
      expect((await opened.run('print(1)')).stdout).toBe('1\n');
    });

    kept('whose stream is lost is lost with it, or goes on over a new one', async () => {
      const opened = await open({ reuse: 'reset' });
      opened.client.close();
      if (!backend.reconnects) {
        await expect(backend.connect(opened.sandbox, soon())).rejects.toMatchObject({ code: 'sandbox_lost' });
        return;
      }
      const client = createRunnerClient({ stream: await backend.connect(opened.sandbox, soon()), epoch: 2 });
      onTestFinished(() => client.close());
      expect(await client.ready).toMatchObject({ ok: true, epoch: 2, running: [] });
      expect((await runOn(client, 2, 'print(1)', {})).stdout).toBe('1\n');
    });

    kept('ends with its backend', async () => {
      const closing = await makeBackend();
      const template = await parseTemplate({ name: 'contract', ...options.template });
      const sandbox = await closing.create(template, soon());
      const client = createRunnerClient({ stream: await closing.connect(sandbox, soon()), epoch: 1 });
      await client.ready;
      await closing.close();
      expect((await client.closed).code).toBe('sandbox_lost');
      expect(await closing.list()).toEqual([]);
      await expect(closing.create(template, soon())).rejects.toMatchObject({ name: 'Failure' });
      await closing.close();
    });
  });
}
