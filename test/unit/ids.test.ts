import fc from 'fast-check';
import { CompactEncrypt, compactDecrypt } from 'jose';
import { beforeAll, describe, expect, test } from 'vitest';
import { createCompactEncrypter } from '../../gateway/node/encrypt-compact.ts';
import {
  createIdSealer,
  generateKeyring,
  type IdParts,
  importKeyring,
  type Keyring,
  MAX_ID_CHARS,
  MAX_READY_IDS,
  openId,
  sealId,
} from '../../shared/ids.ts';
import { digestPrincipal } from '../../shared/principal.ts';

const first = generateKeyring('first');
const second = generateKeyring('second');
let ring: Keyring;
let parts: IdParts;

beforeAll(async () => {
  ring = await importKeyring(first);
  parts = {
    kind: 'x',
    tenant: 'acme',
    principalDigest: await digestPrincipal('acme/alice'),
    cluster: 'lab',
    instance: 'instance-1',
  };
});

const letters = (set: string, minLength: number, maxLength: number) =>
  fc.array(fc.constantFrom(...set), { minLength, maxLength }).map((all) => all.join(''));
const WORD = 'abcxyzABCXYZ0189_-';
const anyParts = fc.record(
  {
    kind: fc.constantFrom('x' as const, 'w' as const, 's' as const),
    tenant: letters('abcXYZ019', 1, 100),
    principalDigest: letters(WORD, 43, 43),
    cluster: letters('abcxyz019-', 1, 63),
    instance: letters(WORD, 8, 64),
    template: letters('abcxyz019-', 1, 63),
  },
  { requiredKeys: ['kind', 'tenant', 'principalDigest', 'cluster', 'instance'] },
);

describe('an id', () => {
  test('opens to what it was sealed with, and fits everywhere', async () => {
    await fc.assert(
      fc.asyncProperty(anyParts, async (given) => {
        const id = await sealId(ring, given);
        expect(id.length).toBeLessThanOrEqual(MAX_ID_CHARS);
        expect(id).toMatch(/^[A-Za-z0-9._-]+$/);
        expect(await openId(ring, given.kind === 's' ? 's' : 'x', id)).toEqual(given);
      }),
    );
  });

  test('of the longest parts fits', async () => {
    const names = { tenant: 'a'.repeat(100), cluster: 'c'.repeat(63), instance: 'i'.repeat(64) };
    const longest = { ...parts, ...names, template: 't'.repeat(63) };
    const wide = await importKeyring({ keys: [{ ...first.keys[0], kid: 'k'.repeat(32) }] });
    const id = await sealId(wide, longest);
    expect(id.length).toBeLessThan(800);
    expect(await openId(wide, 'x', id)).toEqual(longest);
  });

  test('is another each time', async () => {
    const ids = await Promise.all(Array.from({ length: 100 }, () => sealId(ring, parts)));
    expect(new Set(ids).size).toBe(100);
  });

  test('shows nothing of what is in it', async () => {
    const decoded = (await sealId(ring, parts))
      .split('.')
      .map((each) => Buffer.from(each, 'base64url').toString('latin1'));
    for (const secret of [parts.tenant, parts.cluster, parts.instance, parts.principalDigest]) {
      expect(decoded.join('\n')).not.toContain(secret);
    }
  });

  test('of the other kind does not open', async () => {
    expect(await openId(ring, 's', await sealId(ring, parts))).toBeNull();
    expect(await openId(ring, 's', await sealId(ring, { ...parts, kind: 'w' }))).toBeNull();
    expect(await openId(ring, 'x', await sealId(ring, { ...parts, kind: 's' }))).toBeNull();
  });

  test('has one text: with any character changed, added or taken away it does not open', async () => {
    const id = await sealId(ring, parts);
    await fc.assert(
      fc.asyncProperty(fc.nat(id.length - 1), fc.constantFrom(...'Aa0_-.= é'), async (at, character) => {
        const changed = id.slice(0, at) + character + id.slice(at + 1);
        if (changed !== id) expect(await openId(ring, 'x', changed)).toBeNull();
        expect(await openId(ring, 'x', id.slice(0, at) + character + id.slice(at))).toBeNull();
        expect(await openId(ring, 'x', id.slice(0, at) + id.slice(at + 1))).toBeNull();
      }),
      { numRuns: 300 },
    );
    // The 22 characters of a 16-byte tag have four spare bits: every other last character must fail too.
    for (const last of 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_') {
      if (last !== id.at(-1)) expect(await openId(ring, 'x', id.slice(0, -1) + last)).toBeNull();
    }
  });

  test('that somebody made up does not open, and nothing is thrown', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.uuid()), async (text) => {
        expect(await openId(ring, 'x', text)).toBeNull();
      }),
    );
    for (const text of ['', '....', `${'a'.repeat(10)}.`.repeat(4), 'x'.repeat(50_000_000)]) {
      expect(await openId(ring, 'x', text)).toBeNull();
    }
  });
});

describe('a keyring', () => {
  test('seals with its first key and opens with all', async () => {
    const old = await sealId(ring, parts);
    const rotated = await importKeyring({ keys: [...second.keys, ...first.keys] });
    const fresh = await sealId(rotated, parts);
    expect(await openId(rotated, 'x', old)).toEqual(parts);
    expect(await openId(rotated, 'x', fresh)).toEqual(parts);
    expect(await openId(ring, 'x', fresh)).toBeNull();
    expect(await openId(await importKeyring(second), 'x', old)).toBeNull();
  });

  test('opens nothing that another key of the same kid sealed', async () => {
    const twin = await importKeyring(generateKeyring('first'));
    expect(await openId(ring, 'x', await sealId(twin, parts))).toBeNull();
  });

  test('opens nothing that its own key sealed in another way', async () => {
    const secret = Buffer.from(first.keys[0]?.k ?? '', 'base64url');
    const seal = (header: object, plaintext: string) =>
      new CompactEncrypt(Buffer.from(plaintext)).setProtectedHeader(header as never).encrypt(secret);
    const plain = {
      v: 1,
      k: 'x',
      t: 'acme',
      p: parts.principalDigest,
      c: 'lab',
      i: 'instance-1',
      n: 'A'.repeat(22),
    };
    const header = { alg: 'dir', enc: 'A256GCM', kid: 'first' };
    expect(await openId(ring, 'x', await seal(header, JSON.stringify(plain)))).toEqual(parts);
    for (const other of [
      { ...header, zip: 'DEF' },
      { ...header, typ: 'x' },
      { kid: 'first', alg: 'dir', enc: 'A256GCM' },
    ]) {
      expect(await openId(ring, 'x', await seal(other, JSON.stringify(plain)))).toBeNull();
    }
    for (const changes of [
      { v: 2 },
      { k: 'y' },
      { t: '../x' },
      { c: 'LAB' },
      { i: 'x' },
      { n: '' },
      { more: 1 },
    ]) {
      expect(
        await openId(ring, 'x', await seal(header, JSON.stringify({ ...plain, ...changes }))),
      ).toBeNull();
    }
    for (const text of ['', 'null', '[]', '{"v":1'])
      expect(await openId(ring, 'x', await seal(header, text))).toBeNull();
  });

  test('must have a key, unique kids and 32 bytes each', async () => {
    const key = first.keys[0];
    for (const keys of [
      [],
      [key, key],
      [{ ...key, k: 'AAAA' }],
      [{ ...key, kid: 'a b' }],
      [{ ...key, kty: 'OKP' }],
    ]) {
      await expect(importKeyring({ keys })).rejects.toThrow();
    }
  });
});

test('parts out of bounds are never sealed', async () => {
  for (const wrong of [
    { tenant: '../a' },
    { cluster: 'A' },
    { instance: 'short' },
    { principalDigest: 'alice' },
  ]) {
    await expect(sealId(ring, { ...parts, ...wrong })).rejects.toThrow();
  }
});

describe('ids that are sealed ahead', () => {
  test('are all different, and say what was asked for', async () => {
    const seal = createIdSealer(ring, setImmediate);
    const seen = new Set<string>();
    for (let turn = 0; turn < 20; turn += 1) {
      const wanted = { ...parts, cluster: turn % 2 ? 'lab' : 'other' };
      const id = await seal(wanted);
      seen.add(id);
      expect(await openId(ring, 'x', id)).toEqual(wanted);
      await new Promise(setImmediate);
    }
    expect(seen.size).toBe(20);
  });

  test('asked for at once are not one', async () => {
    const seal = createIdSealer(ring, setImmediate);
    const ids = await Promise.all(Array.from({ length: 50 }, () => seal(parts)));
    expect(new Set(ids).size).toBe(50);
  });

  test('are made one at a time for a destination', async () => {
    const work: Array<() => void> = [];
    const seal = createIdSealer(ring, (next) => work.push(next));
    for (let turn = 0; turn < 3; turn += 1) {
      const ids = await Promise.all([seal(parts), seal(parts), seal({ ...parts, cluster: 'other' })]);
      expect(new Set(ids).size).toBe(3);
      expect(work.length).toBe(2);
      for (const next of work.splice(0)) next();
    }
  });

  test('belong to nobody else', async () => {
    const seal = createIdSealer(ring, (work) => work());
    await seal(parts);
    const other = { ...parts, principalDigest: await digestPrincipal('acme/bob') };
    expect(await openId(ring, 'x', await seal(other))).toEqual(other);
  });

  test('are kept for a bounded number of destinations', async () => {
    const work: Array<() => void> = [];
    const seal = createIdSealer(ring, (next) => work.push(next));
    for (let turn = 0; turn <= MAX_READY_IDS; turn += 1) await seal({ ...parts, cluster: `c${turn}` });
    expect(work.length).toBe(MAX_READY_IDS + 1);
    for (const next of work) next();
    expect(await openId(ring, 'x', await seal({ ...parts, cluster: 'c0' }))).toMatchObject({ cluster: 'c0' });
  });

  test('refuse parts out of bounds', async () => {
    const seal = createIdSealer(ring, setImmediate);
    await expect(seal({ ...parts, cluster: 'Not A Name' })).rejects.toThrow();
  });
});

describe('ids that are sealed on this thread', () => {
  test('are what jose opens, for every key of a ring, and differ', async () => {
    const encrypt = createCompactEncrypter();
    const rings = await Promise.all([first, second].map(importKeyring));
    for (const keyring of rings) {
      const ids = await Promise.all([1, 2, 3].map(() => sealId(keyring, parts, encrypt)));
      expect(new Set(ids.map((id) => id.split('.')[2])).size).toBe(3);
      for (const id of ids) {
        expect(await openId(keyring, 'x', id)).toEqual(parts);
        const { plaintext, protectedHeader } = await compactDecrypt(id, keyring.first.key);
        expect(protectedHeader).toEqual({ alg: 'dir', enc: 'A256GCM', kid: keyring.first.kid });
        expect(JSON.parse(new TextDecoder().decode(plaintext))).toMatchObject({ v: 1, k: 'x', t: 'acme' });
      }
    }
    const [one, other] = rings as [Keyring, Keyring];
    expect(await openId(other, 'x', await sealId(one, parts, encrypt))).toBeNull();
  });

  test('open to nobody once a character differs', async () => {
    const id = await sealId(ring, parts, createCompactEncrypter());
    for (let at = 0; at < id.length; at += 1) {
      if (id[at] === '.') continue;
      const changed = id.slice(0, at) + (id[at] === 'A' ? 'B' : 'A') + id.slice(at + 1);
      expect(await openId(ring, 'x', changed), `character ${at}`).toBeNull();
    }
  });
});
