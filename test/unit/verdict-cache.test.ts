import { beforeAll, describe, expect, test } from 'vitest';
import { createBoundedMap } from '../../gateway/auth/bounded-map.ts';
import { JWKS_URL_MAX_AGE_MS, UNKNOWN_KID_COOLDOWN_MS } from '../../gateway/auth/key-sets.ts';
import {
  createVerdictCache,
  MAX_ACCEPTED,
  MAX_REFUSED,
  REFUSED_FOR_MS,
  type Verdict,
} from '../../gateway/auth/verdict-cache.ts';
import { webSha256 } from '../../gateway/sha256.ts';
import { bearer, createAuthBench } from '../fakes/auth-bench.ts';
import { createKeyIssuer, type KeyIssuer, NOW, NOW_MS } from '../fakes/key-issuer.ts';

const URL_OF_KEYS = 'https://id.example/jwks';
let callers: KeyIssuer;
let token: string;

beforeAll(async () => {
  callers = await createKeyIssuer({ kid: 'k1' });
  token = await callers.sign();
});

function createCache() {
  const bench = {
    nowMs: NOW_MS,
    judged: 0,
    cache: createVerdictCache<'callers'>({
      now: (): number => bench.nowMs,
      elapsed: (): number => bench.nowMs,
      sha256: webSha256,
    }),
    recall: (name: string, verdict: Verdict<'callers'>, isCurrent = () => true) =>
      bench.cache.recall(
        name,
        async () => {
          bench.judged += 1;
          return verdict;
        },
        isCurrent,
      ),
  };
  return bench;
}

const accepted = { ok: true, claims: { exp: NOW + 60 } } as Verdict<'callers'>;
const refused = { ok: false, reason: 'unknown_kid' } as const;

describe('a verdict', () => {
  test('of accepted is remembered until the key ends, skew included, and not a moment longer', async () => {
    const bench = createCache();
    await bench.recall('a', accepted);
    bench.nowMs = (NOW + 60 + 30) * 1000 - 1;
    await bench.recall('a', accepted);
    expect(bench.judged).toBe(1);
    bench.nowMs += 1;
    await bench.recall('a', refused);
    expect(bench.judged).toBe(2);
  });

  test('of accepted is forgotten when its signer is no longer the one of that kid', async () => {
    const bench = createCache();
    await bench.recall('a', accepted);
    expect(await bench.recall('a', refused, () => false)).toEqual(refused);
  });

  test('of refused is remembered for a short while, and forgotten when keys or deny-list change', async () => {
    const bench = createCache();
    await bench.recall('a', refused);
    bench.nowMs += REFUSED_FOR_MS - 1;
    await bench.recall('a', accepted);
    expect(bench.judged).toBe(1);
    bench.cache.forgetRefused();
    expect(await bench.recall('a', accepted)).toBe(accepted);
    await bench.recall('b', refused);
    bench.nowMs += REFUSED_FOR_MS;
    expect(await bench.recall('b', accepted)).toBe(accepted);
  });

  test('that is under way is shared', async () => {
    const { cache } = createCache();
    const gate = Promise.withResolvers<Verdict<'callers'>>();
    let judged = 0;
    const judge = () => {
      judged += 1;
      return gate.promise;
    };
    const first = cache.recall('a', judge, () => true);
    // The second has looked for a verdict by the time that a third, asked after it, has found its own.
    const second = cache.recall('a', judge, () => true);
    await cache.recall(
      'b',
      async () => accepted,
      () => true,
    );
    gate.resolve(accepted);
    expect([await first, await second, judged]).toEqual([accepted, accepted, 1]);
  });

  test('of refused that was under way when keys or deny-list changed is not remembered', async () => {
    const { cache } = createCache();
    const gate = Promise.withResolvers<Verdict<'callers'>>();
    const started = Promise.withResolvers<void>();
    const judge = () => {
      started.resolve();
      return gate.promise;
    };
    const late = cache.recall('a', judge, () => true);
    await started.promise;
    cache.forgetRefused();
    gate.resolve(refused);
    expect(await late).toBe(refused);
    expect(
      await cache.recall(
        'a',
        async () => accepted,
        () => true,
      ),
    ).toBe(accepted);
  });

  test('that fails to come is not remembered', async () => {
    const { cache } = createCache();
    const fail = () => Promise.reject(new Error('broken'));
    await expect(cache.recall('a', fail, () => true)).rejects.toThrow('broken');
    expect(
      await cache.recall(
        'a',
        async () => accepted,
        () => true,
      ),
    ).toBe(accepted);
  });

  test('refused leaves the accepted ones their room', async () => {
    const bench = createCache();
    await bench.recall('good', accepted);
    for (let index = 0; index <= MAX_REFUSED; index += 1) await bench.recall(`bad ${index}`, refused);
    bench.judged = 0;
    await bench.recall('good', refused);
    await bench.recall(`bad ${MAX_REFUSED}`, accepted);
    expect(bench.judged).toBe(0);
    await bench.recall('bad 0', refused);
    expect(bench.judged).toBe(1);
  });

  test('accepted makes room past the bound, the one used longest ago first', async () => {
    const bench = createCache();
    for (let index = 0; index < MAX_ACCEPTED; index += 1) await bench.recall(`${index}`, accepted);
    await bench.recall('0', refused);
    expect(bench.judged).toBe(MAX_ACCEPTED);
    await bench.recall('one more', accepted);
    bench.judged = 0;
    await bench.recall('0', refused);
    expect(bench.judged).toBe(0);
    await bench.recall('1', accepted);
    expect(bench.judged).toBe(1);
  });
});

test('a bounded map holds its bound and forgets what was used longest ago', () => {
  const map = createBoundedMap<string, number>(2);
  map.set('a', 1);
  map.set('b', 2);
  expect(map.get('a')).toBe(1);
  map.set('c', 3);
  expect([map.get('a'), map.get('b'), map.get('c'), map.size]).toEqual([1, undefined, 3, 2]);
  map.set('a', 4);
  map.delete('c');
  expect([map.get('a'), map.size]).toEqual([4, 1]);
});

describe('an issuer’s keys', () => {
  async function createBench(entry: Record<string, string>) {
    const bench = createAuthBench([{ issuer: callers, entry }]);
    bench.documents.set(Object.values(entry)[0] ?? '', JSON.stringify(callers.jwks));
    await bench.authenticator.refresh();
    return bench;
  }

  test('are read once for any number of keys', async () => {
    const bench = await createBench({ jwks_url: URL_OF_KEYS });
    for (const jti of ['a', 'b', 'c']) {
      await bench.authenticator.authenticate(bearer(await callers.sign({ claims: { jti } })));
    }
    expect(bench.reads).toEqual([URL_OF_KEYS]);
  });

  test('of a URL are read again when they are old; those of a file at every refresh', async () => {
    const url = await createBench({ jwks_url: URL_OF_KEYS });
    const file = await createBench({ jwks_file: '/jwks' });
    for (const bench of [url, file]) {
      bench.nowMs += JWKS_URL_MAX_AGE_MS - 1;
      await bench.authenticator.refresh();
    }
    expect([url.reads.length, file.reads.length]).toEqual([1, 2]);
    url.nowMs += 1;
    await url.authenticator.refresh();
    expect(url.reads.length).toBe(2);
  });

  test('are read again for a kid that is new, but not for each of a flood of made-up ones', async () => {
    const bench = await createBench({ jwks_url: URL_OF_KEYS });
    const flood = async () => {
      for (let index = 0; index < 20; index += 1) {
        const request = bearer(await callers.sign({ header: { kid: `made-up-${index}` } }));
        await expect(bench.authenticator.authenticate(request)).rejects.toThrow();
      }
    };
    await flood();
    expect(bench.reads.length).toBe(1);
    bench.nowMs += UNKNOWN_KID_COOLDOWN_MS.url;
    await flood();
    expect(bench.reads.length).toBe(2);
    const next = await createKeyIssuer({ kid: 'k2' });
    bench.documents.set(URL_OF_KEYS, JSON.stringify({ keys: [...callers.jwks.keys, ...next.jwks.keys] }));
    bench.nowMs += UNKNOWN_KID_COOLDOWN_MS.url;
    await bench.authenticator.authenticate(bearer(await next.sign()));
    expect(bench.reads.length).toBe(3);
  });

  test.for([
    ['jwks_url', UNKNOWN_KID_COOLDOWN_MS.url],
    ['jwks_file', UNKNOWN_KID_COOLDOWN_MS.file],
  ] as const)(
    'of a %s are read again for a kid that is new after %d ms, and not sooner',
    async ([source, cooldownMs]) => {
      const bench = await createBench({ [source]: source === 'jwks_url' ? URL_OF_KEYS : '/jwks' });
      const ask = async (kid: string) => {
        const request = bearer(await callers.sign({ header: { kid } }));
        await expect(bench.authenticator.authenticate(request)).rejects.toThrow();
        return bench.reads.length;
      };
      bench.nowMs += cooldownMs - 1;
      expect(await ask('k8')).toBe(1);
      bench.nowMs += 1;
      expect(await ask('k9')).toBe(2);
    },
  );

  test('are not read again for a kid that is known, however new the key', async () => {
    const bench = await createBench({ jwks_url: URL_OF_KEYS });
    bench.nowMs += UNKNOWN_KID_COOLDOWN_MS.url;
    await bench.authenticator.authenticate(bearer(await callers.sign({ claims: { jti: 'new' } })));
    expect(bench.reads).toEqual([URL_OF_KEYS]);
  });

  test('of the same kid but another make drop the verdicts of the old ones', async () => {
    const bench = await createBench({ jwks_file: '/jwks' });
    await bench.authenticator.authenticate(bearer(token));
    const twin = await createKeyIssuer({ kid: 'k1' });
    bench.documents.set('/jwks', JSON.stringify(twin.jwks));
    await bench.authenticator.refresh();
    await expect(bench.authenticator.authenticate(bearer(token))).rejects.toThrow();
    await bench.authenticator.authenticate(bearer(await twin.sign()));
  });

  test('stay when the document breaks', async () => {
    const bench = await createBench({ jwks_file: '/jwks' });
    for (const broken of [
      '',
      '{}',
      '{"keys":[]}',
      '<html>',
      JSON.stringify({ keys: [{ ...callers.jwk }] }),
    ]) {
      bench.documents.set('/jwks', broken);
      await bench.authenticator.refresh();
      await bench.authenticator.authenticate(bearer(token));
    }
    expect(JSON.stringify(bench.log)).toContain('jwks_unreadable');
  });

  test('that come late are found without a restart', async () => {
    const bench = createAuthBench([{ issuer: callers, entry: { jwks_url: URL_OF_KEYS } }]);
    await bench.authenticator.refresh();
    await expect(bench.authenticator.authenticate(bearer(token))).rejects.toThrow();
    bench.documents.set(URL_OF_KEYS, JSON.stringify(callers.jwks));
    await bench.authenticator.refresh();
    await bench.authenticator.authenticate(bearer(token));
  });

  test('that are being read for the first time are waited for', async () => {
    const bench = createAuthBench([{ issuer: callers, entry: { jwks_url: URL_OF_KEYS } }]);
    bench.documents.set(URL_OF_KEYS, JSON.stringify(callers.jwks));
    const gate = Promise.withResolvers<void>();
    bench.hold = gate.promise;
    const refreshed = bench.authenticator.refresh();
    const answer = bench.authenticator.authenticate(bearer(token));
    // By the time that a stranger's key, asked for after it, is refused, this one has looked for its own.
    const stranger = bearer(await callers.sign({ claims: { iss: 'stranger' } }));
    await expect(bench.authenticator.authenticate(stranger)).rejects.toThrow();
    gate.resolve();
    await refreshed;
    expect(await answer).toMatchObject({ sub: 'alice' });
    expect(bench.reads.length).toBe(1);
  });
});
