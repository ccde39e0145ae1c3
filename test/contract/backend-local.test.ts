import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { findInterpreter } from '../../agent/backends/local/find-interpreter.ts';
import { createLocalBackend, type LocalBackendDeps } from '../../agent/backends/local/local-backend.ts';
import { sandboxCommand } from '../../agent/backends/local/sandbox-command.ts';
import { createSandboxUids } from '../../agent/backends/local/sandbox-uids.ts';
import { UIDS_PER_AGENT } from '../../agent/backends/local/uid-range.ts';
import { systemClock } from '../../agent/clock.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import { runnerConfig } from '../../agent/runner/runner-config.ts';
import { Failure } from '../../shared/errors.ts';
import { parseTemplate } from '../../shared/template.ts';
import { descendants, isAlive } from '../fakes/process-tree.ts';
import { runOn } from '../fakes/runner-run.ts';
import { backendContract } from './backend.ts';
import { alive } from './strays.ts';

const AGENT = fileURLToPath(new URL('../fakes/local-agent.ts', import.meta.url));
/** The interpreter that templates name; without it the one that is found. */
const PYTHON = process.env.PODGATE_TEST_PYTHONS?.split(':')[0];
const isRoot = process.getuid?.() === 0;
const soon = () => AbortSignal.timeout(30_000);

const deps = (more: Partial<LocalBackendDeps> = {}): LocalBackendDeps => ({
  instance: 'contract',
  path: '/usr/bin',
  unsafe: false,
  clock: systemClock,
  log: () => {},
  ...more,
});

const trouble = await createLocalBackend(deps()).then(
  (backend) => backend.close().then(() => undefined),
  (failure: Failure) => failure.detail,
);

backendContract('the local backend', () => createLocalBackend(deps()), {
  trouble,
  template: PYTHON ? { python: PYTHON } : {},
  onThisMachine: true,
  noDevices: true,
});

describe('the local backend', () => {
  test('leaves nothing alive when its agent is killed', async (context) => {
    context.skip(trouble !== undefined, trouble);
    const marker = `4${Math.floor(Math.random() * 1e9)}`;
    const agent = spawn(process.execPath, [AGENT, marker], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void agent.kill('SIGKILL'));
    await once(agent.stdout, 'data');
    expect(alive(marker)).toBeGreaterThanOrEqual(8);
    // A runner that notices its stream's end would end by itself: this one notices nothing any more.
    const [runner = 0] = childrenOf(agent.pid as number).flatMap(childrenOf);
    process.kill(runner, 'SIGSTOP');
    agent.kill('SIGKILL');
    await once(agent, 'exit');
    await expect.poll(() => alive(marker), { interval: 5, timeout: 5_000 }).toBe(0);
  });

  test('points to Docker where there is no Linux', async () => {
    const failure = createLocalBackend(deps({ platform: 'darwin' }));
    await expect(failure).rejects.toMatchObject({ code: 'backend_unavailable', detail: /Docker/ });
  });

  test('refuses a template that wants a network', async (context) => {
    context.skip(trouble !== undefined, trouble);
    const backend = await createLocalBackend(deps());
    onTestFinished(() => backend.close());
    const template = await parseTemplate({ name: 'online', network: 'cluster' });
    await expect(backend.create(template, soon())).rejects.toMatchObject({ code: 'policy_denied' });
  });

  test('names the setting that keeps namespaces from it', async (context) => {
    context.skip(trouble !== undefined, trouble);
    const runner = runnerConfig(await parseTemplate({ name: 'probe' }), { place: 'fresh', attach: 'stdio' });
    // `parent` is the shell, which becomes the launcher's parent by not being replaced.
    const { file, args } = sandboxCommand('/usr/bin/python3', { runner, parent: 0, probe: true });
    const asChild = args.map((each) =>
      each.startsWith('{') ? each.replace('"parent":0', '"parent":PARENT') : each,
    );
    const script =
      'echo 0 > /proc/sys/user/max_user_namespaces; last=$(printf %s "$6" | sed "s/PARENT/$$/"); "$1" "$2" "$3" "$4" "$5" "$last"; exit $?';
    const { status, stderr } = spawnSync(
      'unshare',
      [
        '--user',
        '--map-current-user',
        '--keep-caps',
        '--pid',
        '--fork',
        '--mount-proc',
        '--kill-child',
        'sh',
        '-c',
        script,
        'sh',
        file,
        ...asChild,
      ],
      { encoding: 'utf8', ...(isRoot ? { uid: 65_531, gid: 65_531 } : {}) },
    );
    expect({ status, stderr }).toEqual({
      status: 78,
      stderr: 'podgate: namespaces are refused: user.max_user_namespaces is 0; set it with sysctl\n',
    });
  });

  test('says of an interpreter below a folder that sandboxes have for themselves that it is there, and takes the next of PATH', async (context) => {
    context.skip(trouble !== undefined, trouble);
    const folder = mkdtempSync('/tmp/podgate-python-');
    onTestFinished(() => rmSync(folder, { recursive: true }));
    chmodSync(folder, 0o755);
    mkdirSync(`${folder}/bin`);
    symlinkSync('/usr/bin/python3', `${folder}/bin/python3`);
    const backend = await createLocalBackend(deps({ path: `${folder}/bin:/usr/bin` }));
    onTestFinished(() => backend.close());
    const named = await parseTemplate({ name: 'named', python: `${folder}/bin/python3` });
    await expect(backend.create(named, soon())).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: expect.stringMatching(/python3 failed \(it lies below .* like \/tmp: put it elsewhere\)/),
    });
    const sandbox = await backend.create(await parseTemplate({ name: 'found' }), soon());
    const client = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch: 1 });
    await client.ready;
  });

  test('says that the sandbox UID is missing, and not Python, where a user namespace has no such UID', async () => {
    const find: typeof findInterpreter = (options) =>
      // Invalid in every namespace: the kernel answers as it does for a UID that is not mapped.
      findInterpreter({ ...options, user: { uid: -1, gid: -1 } });
    await expect(createLocalBackend(deps({ find }))).rejects.toThrow(
      /The sandbox UID does not exist in the agent's user namespace\. Run the agent as an ordinary user/,
    );
  });

  test('without namespaces starts only when told to, and cleans up behind itself', async (context) => {
    context.skip(trouble !== undefined, trouble);
    const refusal = new Failure('backend_unavailable', 'no namespaces here');
    const find: typeof findInterpreter = async (options) => {
      if (options.namespaces) throw refusal;
      return findInterpreter(options);
    };
    await expect(createLocalBackend(deps({ find }))).rejects.toBe(refusal);
    const events: string[] = [];
    const backend = await createLocalBackend(
      deps({ find, unsafe: true, log: (event) => events.push(event) }),
    );
    onTestFinished(() => backend.close());
    expect(events).toContain('local_backend_unsafe');
    expect(backend.freshPerExecution).toBe(false);
    const sandbox = await backend.create(await parseTemplate({ name: 'unsafe' }), soon());
    const client = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch: 1 });
    await client.ready;
    const ran = await runOn(client, 1, 'import os; print(os.getuid(), os.getcwd(), os.getgroups())', {});
    const [uid, cwd, groups] = ran.stdout.trim().split(' ');
    expect(uid).not.toBe('0');
    if (isRoot) expect(groups).toBe('[]');
    expect(cwd).toMatch(/podgate-\w+\/workspace$/);
    await backend.destroy(sandbox);
    expect(await backend.list()).toEqual([]);
    expect(existsSync(dirname(cwd as string))).toBe(false);
  });

  test('gives each sandbox a UID that no other has', () => {
    const uids = createSandboxUids({ first: 65_532, count: 6 });
    expect([uids.take(), uids.take(), uids.take()]).toEqual([65_532, 65_533, 65_536]);
    uids.release(65_533);
    uids.release(65_534);
    expect([uids.take(), uids.take()]).toEqual([65_533, 65_537]);
    expect(() => uids.take()).toThrow(
      expect.objectContaining({ code: 'at_capacity', detail: expect.stringMatching(/All 6 UIDs/) }),
    );
  });

  test('is destroyed with all that lives in it, also where its keeper does not hear', async (context) => {
    context.skip(trouble !== undefined, trouble);
    const backend = await createLocalBackend(deps());
    onTestFinished(() => backend.close());
    const sandbox = await backend.create(await parseTemplate({ name: 'deaf' }), soon());
    const client = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch: 1 });
    await client.ready;
    const keeper = Number(sandbox.id.split('-')[0]);
    const inside = descendants(keeper);
    expect(inside.length).toBeGreaterThanOrEqual(2);
    process.kill(keeper, 'SIGSTOP');
    await backend.destroy(sandbox);
    expect(inside.filter(isAlive)).toEqual([]);
  });

  test('shares no UID with another agent of the machine', async (context) => {
    context.skip(trouble !== undefined, trouble);
    context.skip(!isRoot, 'an ordinary user has one UID');
    const template = await parseTemplate({ name: 'uids' });
    const backends = [await createLocalBackend(deps()), await createLocalBackend(deps())];
    onTestFinished(async () => void (await Promise.all(backends.map((each) => each.close()))));
    const uids = await Promise.all(
      backends.map(async (backend) => {
        const { id } = await backend.create(template, soon());
        return statSync(`/proc/${id.split('-')[0]}`).uid;
      }),
    );
    expect(Math.abs((uids[0] as number) - (uids[1] as number)) % UIDS_PER_AGENT).toBe(0);
    expect(new Set(uids).size).toBe(2);
  });
});

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
}
