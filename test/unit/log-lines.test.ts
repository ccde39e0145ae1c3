import { once } from 'node:events';
import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { createLineWriter, MAX_LOG_WAITING_BYTES } from '../../shared/log-lines.ts';

test('log lines that nobody reads are bounded, and how many were left out is said once there is room', async () => {
  const read: string[] = [];
  let go: (() => void) | undefined;
  let isRead = false;
  const pipe = new Writable({
    decodeStrings: false,
    write(line: string, _encoding, taken) {
      read.push(line);
      if (isRead) taken();
      else go = taken;
    },
  });
  const write = createLineWriter(pipe);
  const line = `${JSON.stringify({ event: 'execution', told: 'x'.repeat(1_000) })}\n`;
  const fits = Math.floor(MAX_LOG_WAITING_BYTES / line.length);
  for (let at = 0; at < fits; at += 1) write(line);
  expect(pipe.writableLength).toBe(fits * line.length);
  for (let at = 0; at < 500; at += 1) write(line);
  expect(pipe.writableLength).toBe(fits * line.length);
  isRead = true;
  const drained = once(pipe, 'drain');
  go?.();
  await drained;
  expect(read).toEqual(Array(fits).fill(line));
  write('{"event":"next"}\n');
  write('{"event":"last"}\n');
  expect(read.slice(fits)).toEqual(['{"event":"next","lines_lost":500}\n', '{"event":"last"}\n']);
});
