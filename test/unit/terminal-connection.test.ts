import { expect, test, vi } from 'vitest';
import type { ExecutionFollower } from '../../gateway/execution/execution-follower.ts';
import type { InputStream } from '../../gateway/execution/input-stream.ts';
import { RESIZE_MS, TerminalConnection } from '../../gateway/terminals/terminal-connection.ts';
import { Failure } from '../../shared/errors.ts';
import {
  MAX_TERMINAL_CONTROL_BYTES,
  MAX_TERMINAL_INPUT_BYTES,
  READER_STALL_MS,
  TERMINAL_WINDOW_BYTES,
} from '../../shared/limits.ts';
import type { TerminalSize } from '../../shared/session-messages.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

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
    watch: () => () => {},
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

/** A terminal that shows what `show` is given, and what its peer and its program see of each other. */
function look(over: Promise<never> = new Promise(() => {})) {
  const clock = createFakeClock();
  const waiting: object[] = [];
  let wake = () => {};
  let take = () => {};
  const [heard, sizes] = [[] as string[], [] as number[]];
  const [closed, onClosed, abandon, leave, unwatch] = [vi.fn(), vi.fn(), vi.fn(), vi.fn(), vi.fn()];
  let deny = (_failure: Failure) => {};
  const connection = new TerminalConnection({
    socket: {
      send: (message) => {
        if (typeof message !== 'string') sizes.push(message.byteLength);
      },
      close: closed,
      hold: () => void heard.push('hold'),
      go: () => void heard.push('go'),
    },
    timers: {
      setTimeout: (run: () => void, ms: number) => clock.after(ms, run),
      clearTimeout: (cancel: unknown) => (cancel as (() => void) | undefined)?.(),
    },
    follower: {
      executionId: 'e',
      async next() {
        while (waiting.length === 0)
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        return waiting.shift();
      },
      abandon,
    } as unknown as ExecutionFollower,
    input: {
      position: 0,
      over,
      write: () =>
        new Promise<void>((resolve) => {
          take = resolve;
        }),
      leave,
    } as unknown as InputStream,
    name: 'main',
    created: true,
    offset: 0,
    watch: (denied) => {
      deny = denied;
      return unwatch;
    },
    onClosed,
  });
  const show = (...items: object[]) => {
    waiting.push(...items);
    wake();
    return clock.settle();
  };
  const shown = () => sizes.reduce((sum, size) => sum + size, 0);
  const ack = (offset: number) => connection.message(JSON.stringify({ type: 'ack', offset }));
  const gone = { closed, onClosed, abandon, leave, unwatch };
  const end = (failure: Failure) => deny(failure);
  return { clock, connection, show, shown, ack, heard, take: () => take(), end, gone };
}

const output = (bytes: number) => ({ type: 'output', bytes: new Uint8Array(bytes) });

test('a terminal shows a window of what was not acknowledged, and what is gone needs no acknowledgement', async () => {
  const { clock, show, shown, ack, gone } = look();
  await show({ type: 'gap', from: 0, to: 1_000 }, output(TERMINAL_WINDOW_BYTES + 10));
  expect(shown()).toBe(TERMINAL_WINDOW_BYTES);
  ack(1_010);
  await clock.settle();
  expect(shown()).toBe(TERMINAL_WINDOW_BYTES + 10);
  await clock.advance(READER_STALL_MS);
  expect(gone.closed).not.toHaveBeenCalled();
  await show(output(1));
  await clock.advance(READER_STALL_MS);
  expect(gone.closed).toHaveBeenCalledExactlyOnceWith(expect.any(Number), 'reader_stalled');
});

test('a terminal is let go of that acknowledges the same again and again', async () => {
  const { clock, show, ack, gone } = look();
  await show(output(TERMINAL_WINDOW_BYTES + 1));
  for (let passedMs = 0; passedMs < READER_STALL_MS; passedMs += READER_STALL_MS / 2) {
    ack(0);
    await clock.settle();
    expect(gone.closed).not.toHaveBeenCalled();
    await clock.advance(READER_STALL_MS / 2);
  }
  expect(gone.closed).toHaveBeenCalledExactlyOnceWith(expect.any(Number), 'reader_stalled');
});

test('a key that ends is the end of a terminal also where its peer holds output back: nothing more is shown or typed', async () => {
  const { clock, connection, show, shown, ack, heard, end, gone } = look();
  await show(output(TERMINAL_WINDOW_BYTES + 10));
  end(new Failure('unauthorized', 'x'));
  connection.message(new Uint8Array(1));
  ack(10);
  await clock.settle();
  expect([shown(), heard]).toEqual([TERMINAL_WINDOW_BYTES, []]);
  expect(gone.closed).toHaveBeenCalledExactlyOnceWith(4_401, 'unauthorized');
  const { abandon, leave, unwatch } = gone;
  expect([abandon, leave, unwatch].map(({ mock }) => mock.calls.length)).toEqual([1, 1, 1]);
});

test.for([
  ['of more than was sent', [11]],
  ['of less than the one before', [5, 4]],
])('an acknowledgement %s ends the connection', async ([, acks]) => {
  const { show, ack, gone } = look();
  await show(output(10));
  for (const offset of acks as number[]) ack(offset);
  expect(gone.closed).toHaveBeenCalledExactlyOnceWith(4_422, 'invalid_request');
});

test('a message has its limit, as what is typed and as what is asked', () => {
  for (const more of [0, 1]) {
    const typed = look();
    typed.connection.message(new Uint8Array(MAX_TERMINAL_INPUT_BYTES + more));
    const asked = look();
    asked.connection.message('{"type":"ack","offset":0}'.padEnd(MAX_TERMINAL_CONTROL_BYTES + more));
    expect([typed, asked].map(({ gone }) => gone.closed.mock.calls.length)).toEqual([more, more]);
  }
});

test('whoever types is heard again once all of it was taken, and not once it has left', async () => {
  const { clock, connection, heard, take, gone } = look();
  for (const _ of [1, 2]) connection.message(new Uint8Array(1));
  await clock.settle();
  take();
  await clock.settle();
  expect(heard).toEqual(['hold']);
  take();
  await clock.settle();
  expect(heard).toEqual(['hold', 'go']);
  connection.message(new Uint8Array(1));
  await clock.settle();
  connection.closed();
  take();
  await clock.settle();
  expect(heard).toEqual(['hold', 'go', 'hold']);
  expect(gone.onClosed).toHaveBeenCalledExactlyOnceWith('left', { input: 3, output: 0 });
  expect([gone.abandon, gone.leave].map(({ mock }) => mock.calls.length)).toEqual([1, 1]);
});

test.for([
  ['conflict', 0],
  ['not_found', 0],
  ['agent_lost', 1],
] as const)('input that ends with %s ends the connection so often: %i', async ([code, ends]) => {
  const { clock, gone } = look(Promise.reject(new Failure(code, 'x')));
  await clock.settle();
  expect(gone.closed).toHaveBeenCalledTimes(ends);
});
