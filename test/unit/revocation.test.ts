import { beforeAll, describe, expect, test } from 'vitest';
import { REFRESH_MS } from '../../gateway/auth/authenticator.ts';
import { parseDenyList } from '../../gateway/auth/deny-list.ts';
import { bearer, createAuthBench } from '../fakes/auth-bench.ts';
import { createKeyIssuer, type KeyIssuer } from '../fakes/key-issuer.ts';

let callers: KeyIssuer;
let token: string;

beforeAll(async () => {
  callers = await createKeyIssuer({ kid: 'k1' });
  token = await callers.sign();
});

const FILE = '/deny.json';
const EMPTY = '{"jti":[],"sub":[]}';
const DENIED = '{"jti":["token-1"]}';

async function createBench(text: string | undefined = EMPTY) {
  const bench = createAuthBench([{ issuer: callers }], { denyList: { file: FILE } });
  if (text !== undefined) bench.documents.set(FILE, text);
  await bench.authenticator.refresh();
  return bench;
}

describe('a deny-list', () => {
  const lists: [text: string, why: string][] = [
    [DENIED, 'by id'],
    [`{"sub":[{"issuer":"issuer-of-callers","sub":"alice"}]}`, 'by subject'],
    [`{"sub":["issuer-of-callers alice"]}`, 'by subject in one word'],
    ['# revoked\n\ntoken-1\n', 'by a line with its id'],
    ['token-9\r\nissuer-of-callers alice\r\n', 'by a line with issuer and subject'],
  ];
  test.for(lists)('%s refuses a key %s', async ([text]) => {
    const bench = await createBench(text);
    await expect(bench.authenticator.authenticate(bearer(token))).rejects.toMatchObject({
      code: 'unauthorized',
      detail: 'The key was not accepted.',
    });
    expect(bench.reasons()).toEqual(['revoked']);
  });

  const others: string[] = [
    '{"jti":["token-2"]}',
    '{"sub":["other-issuer alice","issuer-of-callers bob"]}',
    '',
    '#x',
  ];
  test.for(others)('%j leaves other keys alone', async (text) => {
    const bench = await createBench(text);
    expect(await bench.authenticator.authenticate(bearer(token))).toMatchObject({ sub: 'alice' });
  });

  test('keeps its last good content when it is broken or gone, and says so once', async () => {
    const bench = await createBench(DENIED);
    for (const broken of [
      '{',
      '{"jtis":[]}',
      '{"jti":"token-1"}',
      '{"sub":["nospace"]}',
      '{"jti":[3]}',
      '',
      undefined,
    ]) {
      if (broken === undefined) bench.documents.delete(FILE);
      else bench.documents.set(FILE, broken);
      bench.log.length = 0;
      await bench.authenticator.refresh();
      await bench.authenticator.refresh();
      await expect(bench.authenticator.authenticate(bearer(token))).rejects.toThrow();
      expect(bench.log.filter(({ event }) => event === 'deny_list_unreadable')).toEqual([
        expect.objectContaining({ level: 'warn', from: FILE, kept: 'last_good' }),
      ]);
    }
    bench.documents.set(FILE, EMPTY);
    await bench.authenticator.refresh();
    expect(bench.log.at(-1)).toMatchObject({ event: 'deny_list_readable' });
    await bench.authenticator.authenticate(bearer(token));
  });

  test.for(['- token-1\n- token-2\n', 'jti: token-1\n', '{"sub":["- alice"]}'])(
    'that is %j names no issuer there is, and the log says so once for each change',
    async (text) => {
      const bench = await createBench(text);
      const told = () => bench.log.filter(({ event }) => event === 'deny_list_unknown_issuer');
      await bench.authenticator.refresh();
      const [issuer] = /-|jti:/.exec(text) ?? [];
      expect(told()).toEqual([expect.objectContaining({ level: 'warn', from: FILE, issuer, issuers: 1 })]);
      bench.documents.set(FILE, `${EMPTY} `);
      await bench.authenticator.refresh();
      expect(told()).toHaveLength(1);
      bench.documents.set(FILE, text);
      await bench.authenticator.refresh();
      expect(told()).toHaveLength(2);
    },
  );

  test('that names an issuer which was taken out holds for the others, and shows no key that lies in it', async () => {
    const bench = await createBench(
      `issuer-of-callers alice\nother-issuer bob\neyJ${'x'.repeat(200)} carol\n`,
    );
    await expect(bench.authenticator.authenticate(bearer(token))).rejects.toThrow();
    const [told] = bench.log.filter(({ event }) => event === 'deny_list_unknown_issuer');
    expect(told).toMatchObject({ issuer: 'other-issuer', issuers: 2 });
    bench.documents.set(FILE, `eyJ${'x'.repeat(200)} carol\n`);
    await bench.authenticator.refresh();
    expect(bench.log.at(-1)).toMatchObject({ issuer: `eyJ${'x'.repeat(61)}` });
  });

  test.for(['{}', '# nobody'])('that named somebody names nobody with %j', async (nobody) => {
    const bench = await createBench(DENIED);
    await expect(bench.authenticator.authenticate(bearer(token))).rejects.toThrow();
    bench.documents.set(FILE, nobody);
    await bench.authenticator.refresh();
    await bench.authenticator.authenticate(bearer(token));
    bench.documents.set(FILE, '');
    await bench.authenticator.refresh();
    await bench.authenticator.authenticate(bearer(token));
  });

  test('behind a URL, or keys there, are named in the log without the query', async () => {
    const denied = 'https://lists.example/deny.json';
    const jwks = 'https://keys.example:8443/jwks';
    const query = '?token=topsecret#topsecret';
    const bench = createAuthBench([{ issuer: callers, entry: { jwks_url: jwks + query } }], {
      denyList: { url: denied + query },
    });
    for (const url of [denied, jwks]) bench.documents.set(url + query, '{"keys":0}');
    await bench.authenticator.refresh();
    expect(bench.log.map(({ from }) => from).sort()).toEqual([jwks, denied]);
    expect(JSON.stringify(bench.log)).not.toContain('topsecret');
  });

  test('that could never be read refuses everybody until it can', async () => {
    const bench = createAuthBench([{ issuer: callers }], { denyList: { file: FILE } });
    await expect(bench.authenticator.authenticate(bearer(token))).rejects.toMatchObject({
      code: 'unauthorized',
    });
    await bench.authenticator.refresh();
    await expect(bench.authenticator.authenticate(bearer(token))).rejects.toMatchObject({
      code: 'unauthorized',
    });
    expect(bench.reasons()).toEqual(['deny_list_unavailable', 'deny_list_unavailable']);
    bench.documents.set(FILE, EMPTY);
    await bench.authenticator.refresh();
    await bench.authenticator.authenticate(bearer(token));
  });

  test('takes effect on a key that was accepted before, and lets it in again when taken back', async () => {
    const bench = await createBench();
    const caller = await bench.authenticator.authenticate(bearer(token));
    bench.documents.set(FILE, DENIED);
    await bench.authenticator.refresh();
    await expect(bench.authenticator.authenticate(bearer(token))).rejects.toThrow();
    expect(bench.authenticator.isRevoked(caller)).toBe(true);
    bench.documents.set(FILE, EMPTY);
    await bench.authenticator.refresh();
    expect(bench.authenticator.isRevoked(caller)).toBe(false);
    await bench.authenticator.authenticate(bearer(token));
  });

  test('is read again every 15 seconds until the gateway ends', async () => {
    const naps: number[] = [];
    const end = new AbortController();
    const bench = createAuthBench([{ issuer: callers }], {
      denyList: { file: FILE },
      sleep: async (ms) => {
        naps.push(ms);
        if (naps.length === 3) end.abort();
      },
    });
    await bench.authenticator.watch(end.signal);
    expect(naps).toEqual([REFRESH_MS, REFRESH_MS, REFRESH_MS]);
    expect(REFRESH_MS).toBe(15_000);
    expect(bench.reads).toEqual([FILE, FILE, FILE]);
  });

  test.for(['["token-1"]', ' "token-1"', '<!doctype html>\n<title>Sign in</title>', 'null\n'])(
    'that is %j is none: as lines it would name nobody',
    (text) => {
      expect(() => parseDenyList(text)).toThrow('neither a JSON object nor lines');
    },
  );

  test('says which line cannot be read', () => {
    expect(() => parseDenyList('good\n\u0007\n')).toThrow(/line 2/);
  });
});

describe('what a key keeps alive', () => {
  test('ends when the key is revoked, and only then', async () => {
    const bench = await createBench();
    const caller = await bench.authenticator.authenticate(bearer(token));
    const other = await bench.authenticator.authenticate(
      bearer(await callers.sign({ claims: { sub: 'bob', jti: 'token-2' } })),
    );
    const [mine, theirs] = [caller, other].map((key) => bench.authenticator.watchRevocation(key));
    const disposed = bench.authenticator.watchRevocation(caller);
    disposed[Symbol.dispose]();
    expect(mine?.signal.aborted).toBe(false);
    bench.documents.set(FILE, DENIED);
    await bench.authenticator.refresh();
    expect([mine?.signal.aborted, theirs?.signal.aborted, disposed.signal.aborted]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test.for([
    ['is withdrawn from the JWKS', 'k2'],
    ['gives its name to another', 'k1'],
  ] as const)('ends when its signer’s key %s', async ([, kid]) => {
    const bench = createAuthBench([{ issuer: callers, entry: { jwks_file: '/jwks' } }]);
    bench.documents.set('/jwks', JSON.stringify(callers.jwks));
    await bench.authenticator.refresh();
    const caller = await bench.authenticator.authenticate(bearer(token));
    const watch = bench.authenticator.watchRevocation(caller);
    const next = await createKeyIssuer({ kid });
    bench.documents.set('/jwks', JSON.stringify(next.jwks));
    await bench.authenticator.refresh();
    expect(watch.signal.aborted).toBe(true);
    await expect(bench.authenticator.authenticate(bearer(token))).rejects.toThrow();
  });

  test.each(['{"keys":[]}', '{', ''])(
    'does not end where the JWKS is broken or has no key left, whose keys stay in force: %j',
    async (broken) => {
      const bench = createAuthBench([{ issuer: callers, entry: { jwks_file: '/jwks' } }]);
      bench.documents.set('/jwks', JSON.stringify(callers.jwks));
      await bench.authenticator.refresh();
      const caller = await bench.authenticator.authenticate(bearer(token));
      const watch = bench.authenticator.watchRevocation(caller);
      bench.documents.set('/jwks', broken);
      await bench.authenticator.refresh();
      expect(watch.signal.aborted).toBe(false);
      expect((await bench.authenticator.authenticate(bearer(token))).sub).toBe(caller.sub);
    },
  );

  test('of a subject is of one issuer’s, though another’s of that name in the tenant is the same principal', async () => {
    const other = await createKeyIssuer({ issuer: 'other' });
    const bench = createAuthBench([{ issuer: callers }, { issuer: other }], { denyList: { file: FILE } });
    bench.documents.set(FILE, '');
    await bench.authenticator.refresh();
    const [mine, theirs] = [token, await other.sign()];
    const one = await bench.authenticator.authenticate(bearer(mine));
    expect((await bench.authenticator.authenticate(bearer(theirs))).principal).toBe(one.principal);
    bench.documents.set(FILE, `${one.issuer} ${one.sub}`);
    await bench.authenticator.refresh();
    await expect(bench.authenticator.authenticate(bearer(mine))).rejects.toThrow();
    expect((await bench.authenticator.authenticate(bearer(theirs))).principal).toBe(one.principal);
  });

  test('ends at once where the key is revoked already', async () => {
    const bench = await createBench();
    const caller = await bench.authenticator.authenticate(bearer(token));
    bench.documents.set(FILE, DENIED);
    await bench.authenticator.refresh();
    expect(bench.authenticator.watchRevocation(caller).signal.aborted).toBe(true);
  });

  test('listeners hear of every change, not of readings that change nothing, and one that throws stops no other', async () => {
    const bench = await createBench();
    let heard = 0;
    bench.authenticator.onChange(() => {
      throw new Error('broken listener');
    });
    const stop = bench.authenticator.onChange(() => {
      heard += 1;
    });
    await bench.authenticator.refresh();
    expect(heard).toBe(0);
    bench.documents.set(FILE, DENIED);
    await bench.authenticator.refresh();
    expect(heard).toBe(1);
    expect(bench.log.at(-1)).toMatchObject({ event: 'revocation_listener_failed' });
    stop();
    bench.documents.set(FILE, EMPTY);
    await bench.authenticator.refresh();
    expect(heard).toBe(1);
  });

  test('a key denied while its verdict is under way is refused', async () => {
    const bench = createAuthBench([{ issuer: callers, entry: { jwks_url: 'https://id.example/jwks' } }], {
      denyList: { file: FILE },
    });
    bench.documents.set(FILE, EMPTY);
    await bench.authenticator.refresh();
    bench.nowMs += 60_000;
    bench.documents.set('https://id.example/jwks', JSON.stringify(callers.jwks));
    const gate = Promise.withResolvers<void>();
    bench.hold = gate.promise;
    const answer = bench.authenticator.authenticate(
      bearer(await callers.sign({ claims: { exp: 1_800_003_000 } })),
    );
    bench.documents.set(FILE, DENIED);
    const refreshed = bench.authenticator.refresh();
    gate.resolve();
    await refreshed;
    await expect(answer).rejects.toMatchObject({ code: 'unauthorized' });
  });
});
