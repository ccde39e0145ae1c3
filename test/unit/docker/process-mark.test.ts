import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, onTestFinished, test } from 'vitest';
import { isMarkAlive, ownMark } from '../../../agent/backends/docker/process-mark.ts';
import { startTimeOf } from '../../../agent/process-name.ts';

const own = ownMark() as string;
const [boot, namespace] = own.split('/');

describe('the mark of a process', () => {
  test('is alive as long as the process is', async () => {
    expect(isMarkAlive(own, own)).toBe(true);
    const child = spawn('sleep', ['60']);
    onTestFinished(() => void child.kill('SIGKILL'));
    await once(child, 'spawn');
    const mark = [boot, namespace, child.pid, startTimeOf(child.pid as number)].join('/');
    expect(isMarkAlive(mark, own)).toBe(true);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(isMarkAlive(mark, own)).toBe(false);
  });

  test('is dead when another process has its number', () => {
    expect(isMarkAlive([boot, namespace, process.pid, '1'].join('/'), own)).toBe(false);
  });

  test('is dead when nobody has buried the process yet', async () => {
    const parent = spawn('sh', ['-c', 'sh -c "exit 0" & echo $!; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    onTestFinished(() => void parent.kill('SIGKILL'));
    const [said] = await once(parent.stdout, 'data');
    const pid = Number(String(said));
    await expect.poll(() => startTimeOf(pid), { interval: 2 }).toBeUndefined();
  });

  test.for([
    ['another boot', `other/${namespace}/1/1`],
    ['another namespace of processes', `${boot}/1/1/1`],
    ['a container that has none', ''],
    ['something else', 'x'],
  ])('of %s says nothing', ([, mark]) => {
    expect(isMarkAlive(mark as string, own)).toBeUndefined();
    expect(isMarkAlive(own, undefined)).toBeUndefined();
  });
});
