import { describe, expect, test, vi } from 'vitest';
import { POOL_BOUNDS } from '../../agent/pool/bounds.ts';
import { createPool } from '../../agent/pool/pool.ts';
import type { RunnerStartBody } from '../../agent/runner/messages.ts';
import { TYPE } from '../../shared/frame-type.ts';
import { STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { parseTemplate } from '../../shared/template.ts';
import { createFakeBackend, type FakeSandbox } from '../fakes/fake-backend.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';
import type { FakeRunner } from '../fakes/fake-runner.ts';

const LOOK_MS = 10;
/** Without input: its runner runs it at once. */
const BODY: RunnerStartBody = {
  language: 'python',
  last_line_interactive: false,
  traceparent: null,
  sizes: { manifest: 0, code: 0, stdin: null, files: 0 },
  limits: {
    timeout_ms: 1_000,
    max_output_bytes: 0,
    memory_bytes: 1,
    cpu_seconds: 1,
    output_limit_bytes: null,
  },
  collect: false,
};

async function openOne() {
  const clock = createFakeClock();
  const backend = createFakeBackend({ freshPerExecution: false, reconnects: true });
  const template = await parseTemplate({ name: 'default', pool: { min: 1, max: 1 } });
  const pool = createPool({ backend, clock, template, random: () => 0.5, log: () => {}, onChange: () => {} });
  await clock.settle();
  const [sandbox] = backend.made as [FakeSandbox];

  /** Cuts each stream of the next while as soon as it is there. */
  async function cutAll(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += LOOK_MS) {
      sandbox.runner.die();
      await clock.advance(LOOK_MS);
    }
  }
  return { backend, clock, pool, sandbox, cutAll };
}

describe('a sandbox whose streams are cut one after the other', () => {
  test('is reached again less and less often, and goes on', async () => {
    const { clock, pool, sandbox, cutAll } = await openOne();
    await cutAll(10_000);
    expect(sandbox.streams).toBeGreaterThan(3);
    expect(sandbox.streams).toBeLessThan(15);
    await clock.advance(POOL_BOUNDS.reconnectMaxMs);
    expect(pool.counts()).toMatchObject({ idle: 1, unreached: 0 });
    expect(sandbox.destroyed).toBe(false);
  });

  test.for([
    ['at once where one held', POOL_BOUNDS.reconnectSteadyMs, 1],
    ['after a wait where none did', POOL_BOUNDS.reconnectSteadyMs - 1, 0],
  ] as const)('is reached again %s', async ([, heldMs, more]) => {
    const { clock, sandbox, cutAll } = await openOne();
    await cutAll(5_000);
    // From a new stream on.
    const seen = sandbox.streams;
    while (sandbox.streams === seen) await clock.advance(1);
    await clock.advance(heldMs);
    const before = sandbox.streams;
    sandbox.runner.die();
    await clock.settle();
    expect(sandbox.streams - before).toBe(more);
  });
});

test('what has ended in a sandbox is told of no loss of it, and what runs is told once', async () => {
  const { clock, pool, sandbox } = await openOne();
  const loan = await pool.wait('a', new AbortController().signal);
  const begin = (streamId: number) => {
    const heard = { exit: vi.fn(), lost: vi.fn() };
    const silent = { started() {}, data() {}, fileEnd() {}, inputWindow() {} };
    loan.runner.start(streamId, BODY, { ...silent, ...heard });
    return heard;
  };
  const ended = begin(1);
  await clock.settle();
  sandbox.runner.onRun = (run) => run.started();
  const running = begin(2);
  await clock.settle();
  const closed = pool.close();
  await loan.release('discard');
  await clock.settle();
  await closed;
  const calls = [ended, running].map(({ exit, lost }) => [exit.mock.calls.length, lost.mock.calls.length]);
  expect(calls).toEqual([
    [1, 0],
    [0, 1],
  ]);
});

test('what runs is told over its next stream what it may send, and what was asked for while nobody could hear it', async () => {
  const { backend, clock, pool, sandbox } = await openOne();
  const { runner } = await pool.wait('a', new AbortController().signal);
  sandbox.runner.onRun = (run) => run.started();
  const silent = { started() {}, data() {}, fileEnd() {}, inputWindow() {}, exit() {}, lost() {} };
  const begin = (streamId: number) => runner.start(streamId, BODY, silent);
  const [before, meanwhile, unwanted] = [begin(1), begin(2), begin(3)];
  before.window(STREAM_WINDOW_BYTES + 1);
  await clock.settle();
  backend.unreachable = true;
  backend.onRunner = ({ answers }) => {
    answers.ready = { running: [1, 2, 3] };
  };
  sandbox.runner.die();
  await clock.settle();
  before.window(STREAM_WINDOW_BYTES);
  meanwhile.window(STREAM_WINDOW_BYTES + 3);
  meanwhile.window(STREAM_WINDOW_BYTES + 2);
  unwanted.cancel('killed');
  backend.unreachable = false;
  await clock.advance(POOL_BOUNDS.reconnectMaxMs);
  expect(sandbox.runner.retold).toEqual([
    { stream: 1, type: TYPE.WINDOW, body: { limit: STREAM_WINDOW_BYTES + 1 } },
    { stream: 2, type: TYPE.WINDOW, body: { limit: STREAM_WINDOW_BYTES + 3 } },
    { stream: 3, type: TYPE.CANCEL, body: { reason: 'killed' } },
  ]);
});

test('a stream that ends before its READY is replaced where the sandbox was reached before, and only there', async () => {
  const { backend, clock, pool, sandbox } = await openOne();
  const dieFirst = (runner: FakeRunner) => {
    runner.answers.ready = false;
    setImmediate(runner.die);
  };
  backend.onRunner = (runner) => {
    backend.onRunner = () => {};
    dieFirst(runner);
  };
  sandbox.runner.die();
  await clock.advance(POOL_BOUNDS.reconnectMaxMs);
  expect([sandbox.streams, pool.counts().idle]).toEqual([3, 1]);
  backend.onRunner = dieFirst;
  pool.renew();
  await clock.settle();
  expect(backend.made.slice(1).map(({ streams, destroyed }) => [streams, destroyed])).toEqual([[1, true]]);
});

test('a sandbox that lacks what its template requires when it is reached again is given to nobody', async () => {
  const { backend, clock, pool, sandbox } = await openOne();
  backend.onRunner = ({ answers }) => {
    answers.ready = { ok: false, missing: ['seccomp'] };
  };
  sandbox.runner.die();
  await clock.advance(POOL_BOUNDS.reconnectTimeoutMs - 1);
  expect(sandbox.streams).toBeGreaterThan(2);
  expect(pool.counts()).toMatchObject({ idle: 0, unreached: 1 });
  backend.onRunner = () => {};
  await clock.advance(1);
  expect(sandbox.destroyed).toBe(true);
});

test('a stream that ends in the turn of its READY is replaced too', async () => {
  const { backend, clock, pool, sandbox } = await openOne();
  backend.onRunner = ({ stream }) => {
    backend.onRunner = () => {};
    stream.once('data', () => stream.push(null));
  };
  sandbox.runner.die();
  await clock.settle();
  expect([sandbox.streams, pool.counts().idle]).toEqual([2, 0]);
  await clock.advance(POOL_BOUNDS.reconnectMaxMs);
  expect([sandbox.streams, pool.counts().idle]).toEqual([3, 1]);
});

test('a stream that has ended before anybody reads it is replaced as one that ends later', async () => {
  const { backend, clock, pool, sandbox } = await openOne();
  backend.onRunner = ({ stream }) => {
    backend.onRunner = () => {};
    stream.destroy();
  };
  sandbox.runner.die();
  await clock.advance(POOL_BOUNDS.reconnectMaxMs);
  expect([sandbox.streams, pool.counts().idle]).toEqual([3, 1]);
});
