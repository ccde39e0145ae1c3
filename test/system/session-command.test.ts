import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { podgate } from '../fakes/podgate-command.ts';
import { describeStack } from './suite.ts';

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));
/** Each command is a process of its own. */
const PATIENCE_MS = 120_000;
const TEMPLATES = [
  { name: 'default', languages: ['python', 'bash'] as ('python' | 'bash')[], pool: { min: 1, max: 2 } },
];

describeStack('podgate sessions', { templates: TEMPLATES }, (stack) => {
  const run = (...args: string[]) =>
    podgate(['sessions', ...args], { env: { PODGATE_URL: stack().url, PODGATE_KEY: stack().ownKey } });

  test('leaves no session whose id nobody was told', { timeout: PATIENCE_MS }, async () => {
    await using full = await open('/dev/full', 'w');
    const child = spawn(process.execPath, [MAIN, 'sessions', 'create'], {
      stdio: ['ignore', full.fd, 'ignore'],
      env: { PATH: process.env.PATH ?? '', PODGATE_URL: stack().url, PODGATE_KEY: stack().ownKey },
    });
    expect(await once(child, 'close')).toEqual([1, null]);
    expect((await run('list')).stdout).toBe('');
  });

  test(
    'makes one, runs commands and Python in it, moves files and trees, and ends it',
    async () => {
      const dir = await mkdtemp(join(tmpdir(), 'podgate-sessions-'));
      onTestFinished(() => rm(dir, { recursive: true, force: true }));
      const created = await run('create', '--ttl', '600', '--idle', '300');
      expect([created.status, created.stderr]).toEqual([0, '']);
      const id = created.stdout.trim();
      expect((await run('list')).stdout).toMatch(
        new RegExp(`^${id}  local  default  until \\S+  running 0\n$`),
      );
      expect(await run('bash', id, 'echo out; echo err >&2; exit 3')).toMatchObject({
        status: 3,
        stdout: 'out\n',
        stderr: 'err\n',
      });
      expect(await run('bash', id, 'sleep 60', '--timeout', '200')).toMatchObject({
        status: 124,
        stderr: 'podgate: the program ran out of time\n',
      });
      const cut = await run('bash', id, 'head -c 1000001 /dev/zero');
      expect([cut.status, cut.stdout.length]).toEqual([0, 1_000_000]);
      expect(cut.stderr).toBe('podgate: output was cut: 1000001 bytes of stdout, 0 of stderr in all\n');
      const typed = (...args: string[]) =>
        podgate(['sessions', ...args], {
          env: { PODGATE_URL: stack().url, PODGATE_KEY: stack().ownKey },
          stdin: 'one\ntwo\n',
        });
      expect(await typed('bash', '-i', id, 'cat; exit 4')).toMatchObject({
        status: 4,
        stdout: 'one\ntwo\n',
        stderr: '',
      });
      expect(await typed('bash', '-i', id, 'read a; echo $a')).toMatchObject({ status: 0, stdout: 'one\n' });
      expect(await typed('bash', id, 'cat')).toMatchObject({ status: 0, stdout: '' });
      expect(await typed('python', '-i', id, 'input() + input()')).toMatchObject({
        status: 0,
        stdout: "'onetwo'\n",
      });
      await run('python', id, 'x = 41');
      expect(await run('python', id, 'x + 1')).toMatchObject({ status: 0, stdout: '42\n', stderr: '' });
      expect(await run('python', id, 'import os; os._exit(5)')).toMatchObject({
        status: 5,
        stderr: 'podgate: what the interpreter remembered is lost\n',
      });
      await writeFile(join(dir, 'a.txt'), 'hello');
      expect(await run('put', id, join(dir, 'a.txt'), 'in/a.txt')).toMatchObject({ status: 0 });
      expect(await run('get', id, 'in/a.txt')).toMatchObject({ status: 0, stdout: 'hello' });
      expect(await run('put', id, join(dir, 'a.txt'))).toMatchObject({ status: 0, stderr: '' });
      expect(await run('get', id, 'a.txt')).toMatchObject({ status: 0, stdout: 'hello' });
      expect(await run('put', id, join(dir, 'a.txt'), 'sub/')).toMatchObject({ status: 0, stderr: '' });
      expect(await run('get', id, 'sub/a.txt')).toMatchObject({ status: 0, stdout: 'hello' });
      execFileSync('tar', ['czf', join(dir, 'a.tgz'), '-C', dir, 'a.txt']);
      expect(await run('unpack', id, join(dir, 'a.tgz'), 'out')).toMatchObject({ stdout: '1 entries\n' });
      const packed = await run('pack', id, 'out');
      await writeFile(join(dir, 'out.tar'), packed.stdout, 'latin1');
      execFileSync('tar', ['xf', join(dir, 'out.tar'), '-C', dir, '--transform', 's/a.txt/b.txt/']);
      expect(await readFile(join(dir, 'b.txt'), 'utf8')).toBe('hello');
      expect(await run('extend', id, '900')).toMatchObject({ status: 0 });
      expect(await run('end', id)).toMatchObject({ status: 0, stdout: '', stderr: '' });
      const notFound = expect.stringContaining('not found');
      for (const verb of ['bash', 'python'])
        expect(await run(verb, id, '1')).toMatchObject({ status: 125, stderr: notFound });
      expect(await run('get', id, 'a.txt')).toMatchObject({ status: 1, stderr: notFound });
    },
    PATIENCE_MS,
  );

  test('says what is missing', async () => {
    expect(await run('get')).toMatchObject({ status: 2, stderr: expect.stringContaining('give an ID') });
    expect(await run('bash')).toMatchObject({ status: 125, stderr: expect.stringContaining('give an ID') });
    expect(await run('python', '--nonsense')).toMatchObject({ status: 125 });
    expect(await run('--timeout', '5000', 'bash')).toMatchObject({ status: 125 });
    expect(await run('--nonsense', 'get')).toMatchObject({ status: 2 });
    expect(await run('nothing')).toMatchObject({ status: 2, stderr: expect.stringContaining('use create') });
    expect((await run('--help')).stdout).toContain('podgate sessions create');
  });
});
