import { expect, test } from 'vitest';
import type { ExecutionOutput } from '../../agent/executions/execution-output.ts';
import { createRegistry } from '../../agent/executions/registry.ts';
import { RECORD_TTL_MS } from '../../shared/limits.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';
import { resultOf } from '../fakes/fake-runner.ts';

const TOLD = { max_output_bytes: 1, queue_ms: 0 };

function create(maxRecords: number) {
  const clock = createFakeClock();
  const registry = createRegistry({ clock, maxRecords });
  const begin = (id: string) => registry.begin(id, { forget() {} } as ExecutionOutput, TOLD);
  return {
    clock,
    registry,
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
