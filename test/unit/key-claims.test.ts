import { describe, expect, test } from 'vitest';
import { createKeyClaims, MAX_CLAIMS, MAX_CLAIMS_PER_HOLDER } from '../../agent/executions/key-claims.ts';
import { rendezvous } from '../../gateway/clusters/rendezvous.ts';
import { RECORD_TTL_MS } from '../../shared/limits.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

const KEEP_MS = 60_000;
const ask = (executionId: string, changes: object = {}) => ({
  ref: 1,
  key: 'key',
  digest: 'digest',
  execution_id: executionId,
  replaces: null,
  keep_ms: KEEP_MS,
  release: false,
  ...changes,
});

describe('a key at an agent', () => {
  const create = (bounds: { maxClaims?: number; maxPerHolder?: number } = {}) => {
    const clock = createFakeClock();
    return { clock, claims: createKeyClaims({ clock, ...bounds }) };
  };
  const owner = (executionId: string) => ({ execution_id: executionId, digest: 'digest' });

  test('stands for the first that asks, and for nobody else', () => {
    const { claims } = create();
    expect(claims.claim(ask('a'))).toEqual(owner('a'));
    expect(claims.claim(ask('b', { digest: 'other' }))).toEqual(owner('a'));
    expect([claims.holds('key', 'a'), claims.holds('key', 'b'), claims.holds('other', 'a')]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test('may be replaced by whoever knows that the first never began', () => {
    const { claims } = create();
    claims.claim(ask('a'));
    expect(claims.claim(ask('b', { replaces: 'a' }))).toEqual(owner('b'));
    expect(claims.claim(ask('c', { replaces: 'a' }))).toEqual(owner('b'));
  });

  test('of what has begun is neither replaced nor given back, until ten minutes after its end', async () => {
    const { clock, claims } = create();
    claims.claim(ask('a'));
    claims.began('key');
    await clock.advance(10 * RECORD_TTL_MS);
    expect(claims.claim(ask('b', { replaces: 'a' }))).toEqual(owner('a'));
    claims.claim(ask('a', { release: true }));
    claims.ended('key');
    await clock.advance(RECORD_TTL_MS - 1);
    expect(claims.claim(ask('b'))).toEqual(owner('a'));
    await clock.advance(1);
    expect(claims.claim(ask('b'))).toEqual(owner('b'));
  });

  test('is kept for twice RECORD_TTL_MS at most, however long its gateway asks for', async () => {
    const { clock, claims } = create();
    claims.claim(ask('a', { keep_ms: 10 * RECORD_TTL_MS }));
    await clock.advance(2 * RECORD_TTL_MS - 1);
    expect(claims.claim(ask('b'))).toEqual(owner('a'));
    await clock.advance(1);
    expect(claims.claim(ask('b'))).toEqual(owner('b'));
  });

  test('is given back by its own execution alone, and again by one that was refused', () => {
    const { claims } = create();
    claims.claim(ask('a'));
    claims.claim(ask('b', { release: true }));
    expect(claims.claim(ask('b'))).toEqual(owner('a'));
    claims.began('key');
    claims.refused('key');
    claims.claim(ask('a', { release: true }));
    expect(claims.claim(ask('b'))).toEqual(owner('b'));
  });

  test('that nothing began for is free when its time is over, and not before', async () => {
    const { clock, claims } = create();
    claims.claim(ask('a'));
    await clock.advance(KEEP_MS - 1);
    expect(claims.holds('key', 'a')).toBe(true);
    await clock.advance(1);
    expect(claims.holds('key', 'a')).toBe(false);
  });

  test('finds room up to the bound, and no more until others are over', async () => {
    const { clock, claims } = create({ maxClaims: 2 });
    claims.claim(ask('a'));
    expect(claims.claim(ask('b', { key: 'second' }))).toEqual(owner('b'));
    expect(claims.claim(ask('c', { key: 'third' }))).toBeNull();
    expect(claims.claim(ask('a'))).toEqual(owner('a'));
    await clock.advance(KEEP_MS);
    expect(claims.claim(ask('c', { key: 'third' }))).toEqual(owner('c'));
  });
});

describe('keys of one holder at an agent', () => {
  const of = (holder: string | undefined, key: string, changes: object = {}) =>
    ask(`for-${key}`, { key, holder, ...changes });
  const create = () => {
    const clock = createFakeClock();
    const claims = createKeyClaims({ clock, maxClaims: 4, maxPerHolder: 2 });
    return { clock, claims, takes: (...given: Parameters<typeof of>) => claims.claim(of(...given)) !== null };
  };

  test('take its share of the room and leave others theirs', () => {
    const { takes } = create();
    expect([takes('acme/a', '1'), takes('acme/a', '2'), takes('acme/a', '3')]).toEqual([true, true, false]);
    expect([takes('acme/b', '4'), takes('acme/b', '5'), takes('acme/c', '6')]).toEqual([true, true, false]);
    // What is known is answered however full it is.
    expect(takes('acme/a', '1')).toBe(true);
  });

  test('give room back when they are given back, replaced or over', async () => {
    const { clock, claims, takes } = create();
    takes('acme/a', '1');
    takes('acme/a', '2');
    claims.claim(of('acme/a', '1', { release: true }));
    expect([takes('acme/a', '3'), takes('acme/a', '4')]).toEqual([true, false]);
    claims.claim(ask('again', { key: '3', holder: 'acme/a', replaces: 'for-3' }));
    claims.claim(of('acme/a', '2', { release: true }));
    expect([takes('acme/a', '5'), takes('acme/a', '6')]).toEqual([true, false]);
    await clock.advance(KEEP_MS);
    expect([takes('acme/a', '7'), takes('acme/a', '8'), takes('acme/a', '9')]).toEqual([true, true, false]);
  });

  test('have all the room where a gateway does not say whose they are', () => {
    const { takes } = create();
    const known = ['1', '2', '3', '4', '5'].map((key) => takes(undefined, key));
    expect(known).toEqual([true, true, true, true, false]);
  });

  test('have no more room than is said', () => {
    const claims = createKeyClaims({ clock: createFakeClock() });
    const takes = (holder: string, key: number) => claims.claim(of(holder, `${holder} ${key}`)) !== null;
    for (let key = 0; key < MAX_CLAIMS_PER_HOLDER; key += 1) takes('acme/a', key);
    expect([takes('acme/a', MAX_CLAIMS_PER_HOLDER), takes('acme/b', 0)]).toEqual([false, true]);
    for (let key = 1; key < MAX_CLAIMS - MAX_CLAIMS_PER_HOLDER; key += 1) takes(`acme/${key}`, key);
    expect([takes('acme/b', 0), takes('acme/b', 1)]).toEqual([true, false]);
  });
});

describe('rendezvous', () => {
  const names = ['a', 'b', 'c', 'cluster-1', 'cluster-2'];

  test('gives a key one name, whatever the order, and keeps it when others go', () => {
    for (let n = 0; n < 500; n += 1) {
      const chosen = rendezvous(`key ${n}`, names) as string;
      expect(rendezvous(`key ${n}`, [...names].reverse())).toBe(chosen);
      expect(rendezvous(`key ${n}`, [names.find((name) => name !== chosen) as string, chosen])).toBe(chosen);
    }
    expect(rendezvous('key', [])).toBeUndefined();
  });

  test('spreads keys over all names', () => {
    const counts = new Map<string, number>();
    for (let n = 0; n < 5_000; n += 1) {
      const name = rendezvous(`tenant/sub ${n}`, names) as string;
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    for (const name of names) expect(Math.abs((counts.get(name) ?? 0) - 1_000)).toBeLessThan(200);
  });
});
