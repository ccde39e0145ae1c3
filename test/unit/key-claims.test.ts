import { describe, expect, test } from 'vitest';
import { createKeyClaims } from '../../agent/executions/key-claims.ts';
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
  const create = (maxClaims?: number) => {
    const clock = createFakeClock();
    return { clock, claims: createKeyClaims({ clock, ...(maxClaims !== undefined && { maxClaims }) }) };
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
    const { clock, claims } = create(2);
    claims.claim(ask('a'));
    expect(claims.claim(ask('b', { key: 'second' }))).toEqual(owner('b'));
    expect(claims.claim(ask('c', { key: 'third' }))).toBeNull();
    expect(claims.claim(ask('a'))).toEqual(owner('a'));
    await clock.advance(KEEP_MS);
    expect(claims.claim(ask('c', { key: 'third' }))).toEqual(owner('c'));
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
