import { expect, test } from 'vitest';
import { EndedMemory } from '../../gateway/execution/ended-memory.ts';
import { RECORD_TTL_MS } from '../../shared/limits.ts';

function memory(max: number, maxPerTenant: number) {
  const clock = { ms: 0 };
  const kept = new EndedMemory<string>({ elapsed: () => clock.ms, max, maxPerTenant });
  const known = (...names: string[]) =>
    names.filter((name) => kept.get(name.split('-')[0] ?? '', name) !== undefined);
  const end = (name: string, weight?: number) => {
    clock.ms += 1;
    kept.set(name.split('-')[0] ?? '', name, name, weight);
  };
  return { clock, kept, known, end };
}

test('a tenant that has its share has its own oldest forgotten, and nobody else’s', () => {
  const { kept, known, end } = memory(4, 2);
  for (const name of ['globex-1', 'acme-1', 'acme-2']) end(name);
  expect(known('globex-1', 'acme-1', 'acme-2')).toEqual(['globex-1', 'acme-1', 'acme-2']);
  end('acme-3');
  expect(known('globex-1', 'acme-1', 'acme-2', 'acme-3')).toEqual(['globex-1', 'acme-2', 'acme-3']);
  expect(kept.weight).toBe(3);
});

test('where all together are too many the oldest is forgotten, whosever it is', () => {
  const { kept, known, end } = memory(3, 2);
  for (const name of ['acme-1', 'globex-1', 'acme-2']) end(name);
  expect(known('acme-1', 'globex-1', 'acme-2')).toHaveLength(3);
  end('initech-1');
  end('initech-2');
  expect(known('acme-1', 'globex-1', 'acme-2', 'initech-1', 'initech-2')).toEqual([
    'acme-2',
    'initech-1',
    'initech-2',
  ]);
  expect(kept.weight).toBe(3);
});

test('an entry weighs what it is said to, once under one name, and is forgotten ten minutes after its end', () => {
  const { clock, kept, known, end } = memory(10, 10);
  end('acme-1', 4);
  end('acme-1', 6);
  end('acme-2', 4);
  expect(kept.weight).toBe(10);
  end('acme-3', 1);
  expect([known('acme-1', 'acme-2', 'acme-3'), kept.weight]).toEqual([['acme-2', 'acme-3'], 5]);
  end('acme-4', 11);
  expect([known('acme-2', 'acme-3', 'acme-4'), kept.weight]).toEqual([[], 0]);
  end('acme-5');
  clock.ms += RECORD_TTL_MS - 1;
  expect(known('acme-5')).toEqual(['acme-5']);
  clock.ms += 1;
  expect([known('acme-5'), kept.weight]).toEqual([[], 0]);
});

test('what a tenant that stays away has left is let go as others come', () => {
  const { clock, kept, end } = memory(10, 5);
  for (const name of ['acme-1', 'globex-1', 'acme-2', 'initech-1']) end(name);
  clock.ms += RECORD_TTL_MS - 3;
  end('umbrella-1');
  expect(kept.weight).toBe(3);
  clock.ms += 2;
  end('umbrella-2');
  expect(kept.weight).toBe(2);
});
