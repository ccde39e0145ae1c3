import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, onTestFinished, test } from 'vitest';
import { takeUidRange, UIDS_PER_AGENT, type UidRange } from '../../agent/backends/local/uid-range.ts';

const HOLD = `
const { takeUidRange } = await import(process.argv[1]);
console.log((await takeUidRange()).first);
setInterval(() => {}, 60_000);
`;

async function take(): Promise<UidRange> {
  const range = await takeUidRange();
  onTestFinished(() => range.release());
  return range;
}

/** A process of its own that holds a range, and which. */
async function holder(): Promise<{ child: ChildProcess; first: number }> {
  const module = new URL('../../agent/backends/local/uid-range.ts', import.meta.url).href;
  const args = ['--input-type=module', '-e', HOLD, module];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const [line] = await once(child.stdout as NodeJS.ReadableStream, 'data');
  return { child, first: Number(line) };
}

const onLinux = process.platform === 'linux';

test.runIf(onLinux)('ranges of UIDs that are held at once have nothing in common', async () => {
  const ranges = [await take(), await take(), await take()];
  const firsts = ranges.map(({ first }) => first).sort((a, b) => a - b);
  expect((firsts[1] as number) - (firsts[0] as number)).toBeGreaterThanOrEqual(UIDS_PER_AGENT);
  expect((firsts[2] as number) - (firsts[1] as number)).toBeGreaterThanOrEqual(UIDS_PER_AGENT);
  expect(firsts.every((first) => (first - 65_532) % UIDS_PER_AGENT === 0)).toBe(true);
});

test.runIf(onLinux)('a range of UIDs is free again when its holder is killed, and not before', async () => {
  const { child, first } = await holder();
  expect((await take()).first).not.toBe(first);
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
  // Others of this machine may have it for a while.
  await expect
    .poll(
      async () => {
        const range = await takeUidRange();
        await range.release();
        return range.first;
      },
      { interval: 5, timeout: 5_000 },
    )
    .toBeLessThanOrEqual(first);
});
