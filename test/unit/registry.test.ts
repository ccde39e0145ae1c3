import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import type { ExecutionOutput } from '../../agent/executions/execution-output.ts';
import { createKeyClaims } from '../../agent/executions/key-claims.ts';
import { createRegistry } from '../../agent/executions/registry.ts';
import { RECORD_TTL_MS } from '../../shared/limits.ts';
import { FROM_GATEWAY } from '../../shared/messages.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';
import { resultOf } from '../fakes/fake-runner.ts';

const TOLD = { max_output_bytes: 1, queue_ms: 0 };

function create(maxRecords: number) {
  const clock = createFakeClock();
  const registry = createRegistry({ clock, maxRecords });
  /** Whose output was let go of. */
  const forgotten: string[] = [];
  const begin = (id: string) =>
    registry.begin(id, { forget: () => void forgotten.push(id) } as ExecutionOutput, TOLD);
  return {
    clock,
    registry,
    forgotten,
    begin,
    run: (id: string) => registry.end(begin(id), resultOf()),
    fence: (id: string) => registry.status(id, true).state,
    ask: (id: string) => registry.status(id, false).state,
  };
}

test('as many executions are fenced as there is room for, and the next when a fence is over', async () => {
  const { clock, registry, fence } = create(2);
  expect(['a', 'b', 'c'].map(fence)).toEqual(['fenced', 'fenced', 'unknown']);
  // What is fenced stays so, however full it is.
  expect(fence('a')).toBe('fenced');
  expect(registry.has('c')).toBe(false);
  await clock.advance(RECORD_TTL_MS - 1);
  expect(fence('c')).toBe('unknown');
  await clock.advance(1);
  expect(fence('c')).toBe('fenced');
  expect([registry.has('a'), registry.size]).toEqual([false, 1]);
});

test('executions that are over make room, the oldest first; those that run and fences do not', () => {
  const { registry, begin, run, fence, ask } = create(3);
  fence('fenced');
  begin('running');
  run('first');
  run('second');
  expect(['fenced', 'running', 'first', 'second'].map(ask)).toEqual([
    'fenced',
    'accepted',
    'unknown',
    'ended',
  ]);
  fence('more');
  expect(ask('second')).toBe('unknown');
  expect(['fenced', 'running', 'more'].map(ask)).toEqual(['fenced', 'accepted', 'fenced']);
  expect(registry.size).toBe(3);
});

test('the output of an execution that is over is let go of when nobody can ask for it any more, once', async () => {
  const { clock, forgotten, begin, run, ask } = create(100);
  begin('running');
  run('first');
  await clock.advance(1);
  run('second');
  await clock.advance(RECORD_TTL_MS - 1);
  expect(['first', 'second'].map(ask)).toEqual(['unknown', 'ended']);
  await clock.advance(1);
  expect(['first', 'second', 'running'].map(ask)).toEqual(['unknown', 'unknown', 'accepted']);
  expect(forgotten).toEqual(['first', 'second']);
});

const MANY = 10_000;
/** Of no other: not a piece of something else. */
const longText = (n: number) => Buffer.from(`${n}`.padEnd(1_000, 'x')).toString();

test('what is kept of an execution that is fenced, and of whoever has a key, is as short however long its name', () => {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const used = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const clock = createFakeClock();
  const [registry, claims] = [createRegistry({ clock }), createKeyClaims({ clock })];
  const claim = { ref: 1, digest: 'd', replaces: null, keep_ms: RECORD_TTL_MS, release: false };
  const before = used();
  for (let n = 0; n < MANY; n += 1) {
    registry.status(longText(n), true);
    claims.claim({ ...claim, key: `${n}`, execution_id: `${n}`, holder: longText(n) });
  }
  expect(used() - before).toBeLessThan(MANY * 800);
  expect([registry.has(longText(1)), registry.size, claims.holds('1', '1')]).toEqual([true, MANY, true]);
});

test('ids of executions and of keys have no character of more than a byte', () => {
  const { STATUS, CLAIM } = FROM_GATEWAY;
  const status = (id: string) =>
    STATUS.safeParse({ ref: 1, execution_id: id, refuse_if_unknown: true }).success;
  expect([status('x'.repeat(1_024)), status('x'.repeat(1_025)), status('é'), status('')]).toEqual([
    true,
    false,
    false,
    false,
  ]);
  const own = { ref: 1, execution_id: 'e', replaces: null, keep_ms: 1, release: false };
  const claim = (given: object) => CLAIM.safeParse({ ...own, key: 'k', digest: 'd', ...given }).success;
  const texts = ['k'.repeat(64), 'k'.repeat(65), 'é'];
  expect(texts.map((key) => claim({ key }))).toEqual([true, false, false]);
  expect(texts.map((digest) => claim({ digest }))).toEqual([true, false, false]);
});
