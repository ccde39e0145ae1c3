import { expect, test } from 'vitest';
import type { ExecutionFollower } from '../../gateway/execution/execution-follower.ts';
import type { InputStream } from '../../gateway/execution/input-stream.ts';
import { RESIZE_MS, TerminalConnection } from '../../gateway/terminals/terminal-connection.ts';
import type { TerminalSize } from '../../shared/session-messages.ts';

test('a flood of sizes reaches the program as the first and the newest of each RESIZE_MS', () => {
  const due: { run: () => void; ms: number }[] = [];
  const told: TerminalSize[] = [];
  const connection = new TerminalConnection({
    socket: { send() {}, close() {}, hold() {}, go() {} },
    timers: {
      setTimeout: (run: () => void, ms: number) => {
        const timer = { run, ms };
        due.push(timer);
        return timer;
      },
      clearTimeout: (timer: unknown) => void due.splice(due.indexOf(timer as (typeof due)[number]), 1),
    },
    follower: {
      executionId: 'e',
      next: () => new Promise(() => {}),
      abandon() {},
    } as unknown as ExecutionFollower,
    input: {
      position: 0,
      over: new Promise(() => {}),
      resize: (size: TerminalSize) => told.push(size),
      leave() {},
    } as unknown as InputStream,
    name: 'main',
    created: true,
    offset: 0,
    onClosed() {},
  });
  const resize = (rows: number) => connection.message(JSON.stringify({ type: 'resize', rows, columns: 80 }));
  for (let rows = 1; rows <= 1_000; rows += 1) resize(rows);
  expect(told).toEqual([{ rows: 1, columns: 80 }]);
  expect(due.map(({ ms }) => ms)).toEqual([RESIZE_MS]);
  due.shift()?.run();
  expect(told).toEqual([
    { rows: 1, columns: 80 },
    { rows: 1_000, columns: 80 },
  ]);
  due.shift()?.run();
  expect([told.length, due.length]).toEqual([2, 0]);
  resize(7);
  expect(told.at(-1)).toEqual({ rows: 7, columns: 80 });
  resize(8);
  connection.closed();
  expect(due).toEqual([]);
});
