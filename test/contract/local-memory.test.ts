import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { access, chmod, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createLocalBackend, type LocalBackendDeps } from '../../agent/backends/local/local-backend.ts';
import { createMemoryGroups } from '../../agent/backends/local/memory-groups.ts';
import { systemClock } from '../../agent/clock.ts';
import { startTimeOf } from '../../agent/process-name.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import { Failure } from '../../shared/errors.ts';
import { parseTemplate } from '../../shared/template.ts';
import { runOn } from '../fakes/runner-run.ts';

const MIB = 1_048_576;
const soon = () => AbortSignal.timeout(30_000);

/** A folder of this machine's memory hierarchy, of either version. Rejects where there can be none. */
async function newParent(): Promise<string> {
  const hasSecond = await readFile('/sys/fs/cgroup/cgroup.subtree_control', 'utf8').catch(() => '');
  const isSecond = hasSecond.split(/\s/).includes('memory');
  const root = isSecond ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory';
  await access(`${root}/cgroup.procs`);
  const parent = `${root}/podgate-test-${randomUUID()}`;
  await mkdir(parent);
  if (isSecond) await writeFile(`${parent}/cgroup.subtree_control`, '+memory');
  return parent;
}

async function removeParent(parent: string): Promise<void> {
  for (const name of await readdir(parent)) await rmdir(`${parent}/${name}`).catch(() => {});
  await rmdir(parent);
}

async function parentOfTest(): Promise<string> {
  const parent = await newParent();
  onTestFinished(() => removeParent(parent));
  return parent;
}

const trouble = await newParent()
  .then(removeParent)
  .catch((error: NodeJS.ErrnoException) => `no memory control group can be made here (${error.code})`);

/** Files of memory that no process maps: neither RLIMIT_DATA nor a sum over processes sees them. */
const UNMAPPED = `
import os
print('begun', flush=True)
held = []
while len(held) < 64:
    held.append(os.memfd_create('held'))
    for _ in range(16): os.write(held[-1], b'x' * (1 << 20))
print('got a gigabyte')
`;

describe.skipIf(trouble !== undefined)(`the local backend with control groups ${trouble ?? ''}`, () => {
  const grouped = (parent: string, given: Pick<LocalBackendDeps, 'find'> = {}) =>
    createLocalBackend({
      instance: 'memory',
      path: '/usr/bin',
      unsafe: false,
      memoryCgroup: parent,
      clock: systemClock,
      log: () => {},
      ...given,
    });

  async function start(parent: string) {
    const backend = await grouped(parent);
    onTestFinished(() => backend.close());
    const resources = { memory_mb: 32, workspace_mb: 8, tmp_mb: 8 };
    const template = await parseTemplate({ name: 'bound', resources });
    const sandbox = await backend.create(template, soon());
    const client = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch: 1 });
    return { backend, sandbox, client, ready: await client.ready };
  }

  test('ends a program at its memory limit that takes memory which no process maps, and goes on', async () => {
    const parent = await parentOfTest();
    const { backend, sandbox, client, ready } = await start(parent);
    expect(ready.features.cgroup).toMatch(/^v[12]$/);
    const ran = await runOn(client, 1, UNMAPPED, { memoryBytes: 32 * MIB });
    expect(ran.stdout).toBe('begun\n');
    expect(ran.result).toMatchObject({ outcome: 'memory_limit', exit_code: 137, signal: 9 });
    expect(ran.result.peak_memory_bytes).toBeLessThan(130 * MIB);
    const next = await runOn(client, 2, 'print(len(bytearray(16 << 20)))', { memoryBytes: 32 * MIB });
    expect(next.stdout).toBe(`${16 * MIB}\n`);
    const other = await runOn(client, 3, 'import os; os.kill(os.getpid(), 9)', {});
    expect(other.result.outcome).toBe('signaled');
    await backend.destroy(sandbox);
    expect((await readdir(parent)).filter((name) => name.startsWith('podgate-'))).toEqual([]);
  });

  test('makes groups that its sandboxes can use, whatever the umask of its agent', async () => {
    const parent = await parentOfTest();
    const before = process.umask(0o077);
    onTestFinished(() => void process.umask(before));
    const { client, ready } = await start(parent);
    expect(ready.features.cgroup).toMatch(/^v[12]$/);
    expect((await runOn(client, 1, 'print(1)', {})).stdout).toBe('1\n');
  });

  test.skipIf(process.getuid?.() !== 0)(
    'refuses a group that its sandboxes cannot reach, and says how it is made one (as root: else they are its own user’s)',
    async () => {
      const parent = await parentOfTest();
      await chmod(parent, 0o700);
      const words = `PODGATE_MEMORY_CGROUP: '${parent}' cannot be entered by the users of sandboxes: 'chmod o+x' it.`;
      await expect(start(parent)).rejects.toThrow(words);
      await chmod(parent, 0o711);
      const { client } = await start(parent);
      expect((await runOn(client, 1, 'print(1)', {})).stdout).toBe('1\n');
    },
  );

  test('is not held up by an interpreter that ends at once, however far into its group it came', async () => {
    const parent = await parentOfTest();
    const backend = await grouped(parent, {
      find: async () => ({ path: '/bin/false', version: '3.11.0', namespaces: true }),
    });
    const template = await parseTemplate({ name: 'broken' });
    for (let tries = 0; tries < 10; tries += 1) {
      const made = await backend.create(template, soon()).catch((failure: Failure) => failure);
      if (made instanceof Failure) expect(made.code).toBe('backend_unavailable');
      else await backend.destroy(made);
    }
    await backend.close();
    expect((await readdir(parent)).filter((name) => name.startsWith('podgate-'))).toEqual([]);
  });

  test('takes away what an agent left that was killed, and nothing of one that lives', async () => {
    const parent = await parentOfTest();
    const gone = spawn('sleep', ['60']);
    await once(gone, 'spawn');
    const left = `podgate-${gone.pid}-${startTimeOf(gone.pid as number)}-1`;
    const held = `podgate-${process.pid}-${startTimeOf(process.pid)}-9999`;
    await Promise.all([left, held].map((name) => mkdir(`${parent}/${name}`)));
    gone.kill('SIGKILL');
    await once(gone, 'exit');
    await createMemoryGroups(parent);
    expect((await readdir(parent)).filter((name) => name.startsWith('podgate-'))).toEqual([held]);
  });

  test('refuses a folder that is none, and says which setting that is', async () => {
    await expect(createMemoryGroups('/nowhere')).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: expect.stringMatching(/^PODGATE_MEMORY_CGROUP: '\/nowhere' is no .*\(ENOENT\)/),
    });
    await expect(createMemoryGroups('/proc')).rejects.toMatchObject({ code: 'backend_unavailable' });
  });
});
