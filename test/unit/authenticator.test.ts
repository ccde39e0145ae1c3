import { beforeAll, describe, expect, test } from 'vitest';
import { mayUseCluster, mayUseTemplate, requireScope } from '../../gateway/auth/caller.ts';
import { Failure } from '../../shared/errors.ts';
import { basic, bearer, createAuthBench, requestWith } from '../fakes/auth-bench.ts';
import {
  createKeyIssuer,
  type Json,
  type KeyIssuer,
  NOW,
  NOW_MS,
  signHmac,
  signingInput,
} from '../fakes/key-issuer.ts';

let callers: KeyIssuer;
let agents: KeyIssuer;
let others: KeyIssuer;

beforeAll(async () => {
  callers = await createKeyIssuer({ kid: 'k1' });
  others = await createKeyIssuer({ kid: 'k1', issuer: 'issuer-of-others' });
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: callers.jwk.x };
  agents = await createKeyIssuer({ kind: 'agents', kid: 'k1', claims: { clusters: ['lab'], cnf: { jwk } } });
});

const createBench = (options: Parameters<typeof createAuthBench>[1] = {}) =>
  createAuthBench(
    [
      { issuer: callers, entry: { max_lifetime_seconds: 86_400 } },
      { issuer: others, entry: { tenant: 'others' } },
      { issuer: agents },
    ],
    options,
  );

async function failureOf(promise: Promise<unknown>): Promise<Failure> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Failure);
  return error as Failure;
}

describe('a caller', () => {
  test('is who its key says, with everything the key allows', async () => {
    const token = await callers.sign({
      claims: {
        sub: 'team/ci',
        scope: 'execute files unheard-of',
        clusters: ['lab', 'eu-*'],
        default_cluster: 'lab',
        templates: ['py*'],
        limits: { timeout_ms: 5000, concurrency: 0 },
      },
    });
    expect(await createBench().authenticator.authenticate(bearer(token))).toEqual({
      kind: 'callers',
      tenant: 'acme',
      principal: 'acme/team%2Fci',
      principalDigest: expect.stringMatching(/^[\w-]{43}$/),
      holder: 'acme/team%2Fci',
      sub: 'team/ci',
      user: null,
      jti: 'token-1',
      kid: 'k1',
      signedBy: callers.jwks.keys[0]?.x,
      issuer: callers.issuer,
      scopes: ['execute', 'files'],
      clusters: ['lab', 'eu-*'],
      defaultCluster: 'lab',
      templates: ['py*'],
      limits: {
        timeout_ms: 5000,
        memory_mb: null,
        concurrency: 0,
        requests_per_minute: null,
        file_bytes: null,
        file_count: null,
        sessions: null,
      },
      expiresAtMs: (NOW + 3600 + 30) * 1000,
    });
  });

  test('may do nothing that its key does not name, and use all of its tenant unless the key says which', async () => {
    const { authenticator } = createBench();
    const plain = await authenticator.authenticate(bearer(await callers.sign()));
    expect(() => requireScope(plain, 'execute')).toThrow(Failure);
    expect([mayUseCluster(plain, 'any'), mayUseTemplate(plain, 'any')]).toEqual([true, true]);
    const claims = { scope: 'execute', clusters: ['eu-*'], templates: ['python'] };
    const narrow = await authenticator.authenticate(bearer(await callers.sign({ claims })));
    expect(() => requireScope(narrow, 'execute')).not.toThrow();
    expect([mayUseCluster(narrow, 'eu-1'), mayUseCluster(narrow, 'us-1')]).toEqual([true, false]);
    expect([mayUseTemplate(narrow, 'python'), mayUseTemplate(narrow, 'python3')]).toEqual([true, false]);
  });

  test('without a scope gets 403, one sentence and no hint', async () => {
    const caller = await createBench().authenticator.authenticate(bearer(await callers.sign()));
    const failure = await failureOf(Promise.resolve().then(() => requireScope(caller, 'files')));
    expect([failure.code, failure.status, failure.detail]).toEqual([
      'forbidden',
      403,
      'The key does not allow this.',
    ]);
  });
});

describe('a key is found', () => {
  let token: string;
  beforeAll(async () => {
    token = await callers.sign();
  });

  const places: [where: string, fields: (key: string) => Record<string, string | string[]>][] = [
    ['behind Bearer', (key) => ({ authorization: `Bearer ${key}` })],
    ['behind bearer in small letters', (key) => ({ authorization: `bearer  ${key}` })],
    ['in X-API-Key', (key) => ({ 'x-api-key': key })],
    ['as password of Basic', (key) => ({ authorization: basic('key', key) })],
    ['as password of Basic without a user', (key) => ({ authorization: basic('', key) })],
    [
      'in all of them at once',
      (key) => ({ authorization: [`Bearer ${key}`, basic('x', key)], 'x-api-key': [key, key] }),
    ],
    ['beside a scheme that is not ours', (key) => ({ authorization: 'Negotiate abc', 'x-api-key': key })],
  ];
  test.for(places)('%s', async ([, fields]) => {
    expect(await createBench().authenticator.authenticate(requestWith(fields(token)))).toMatchObject({
      sub: 'alice',
    });
  });

  const none: Record<string, string>[] = [
    {},
    { authorization: 'Negotiate abc' },
    { cookie: 'key=x' },
    { authorization: '' },
  ];
  test.for(none)('nowhere in %j: the answer says how to send one', async (fields) => {
    const failure = await failureOf(createBench().authenticator.authenticate(requestWith(fields)));
    expect([failure.code, failure.detail]).toEqual([
      'unauthorized',
      'Send a key, as "Authorization: Bearer KEY".',
    ]);
  });

  test('twice and different: 401, even when both are good', async () => {
    const other = await callers.sign({ claims: { sub: 'bob' } });
    const bench = createBench();
    for (const fields of [
      { authorization: `Bearer ${token}`, 'x-api-key': other },
      { authorization: [`Bearer ${token}`, `Bearer ${other}`] },
      { authorization: [`Bearer ${token}`, basic('key', other)] },
      { 'x-api-key': [token, other] },
      { 'x-api-key': token, authorization: 'Bearer' },
    ]) {
      expect((await failureOf(bench.authenticator.authenticate(requestWith(fields)))).code).toBe(
        'unauthorized',
      );
    }
    expect(new Set(bench.reasons())).toEqual(new Set(['several_keys']));
  });
});

describe('every refused key gets the same answer, and the log says why', () => {
  const unsigned = () =>
    `${signingInput(JSON.stringify({ alg: 'none', typ: 'podgate-key+jwt', kid: 'k1' }), JSON.stringify(callers.claims()))}.`;
  const hmac = () => {
    const header = { alg: 'HS256', typ: 'podgate-key+jwt', kid: 'k1' };
    return signHmac(header, callers.claims(), Buffer.from(callers.jwk.x, 'base64url'));
  };
  const good = (changes: { header?: Json; claims?: Json }) => () => callers.sign(changes);
  const faults: [fault: string, make: () => string | Promise<string>, reason: string][] = [
    ['malformed', () => 'abc', 'malformed'],
    ['empty', () => '', 'malformed'],
    ['huge', () => 'x'.repeat(100_000), 'too_large'],
    ['alg none', unsigned, 'wrong_alg'],
    ['HS256 with the public key', hmac, 'wrong_alg'],
    ['unknown kid', good({ header: { kid: 'k9' } }), 'unknown_kid'],
    ['missing kid', good({ header: { kid: undefined } }), 'no_kid'],
    ['crit', good({ header: { crit: ['x'], x: 1 } }), 'malformed'],
    ['wrong audience', good({ claims: { aud: 'x' } }), 'wrong_audience'],
    ['wrong type', good({ header: { typ: 'at+jwt' } }), 'wrong_typ'],
    ['unknown issuer', good({ claims: { iss: 'x' } }), 'wrong_issuer'],
    ['no issuer', good({ claims: { iss: undefined } }), 'wrong_issuer'],
    ['another tenant’s issuer', good({ claims: { iss: 'issuer-of-others' } }), 'bad_signature'],
    ['an agent’s token', () => agents.sign(), 'wrong_issuer'],
    ['no exp', good({ claims: { exp: undefined } }), 'bad_claims'],
    ['expired', good({ claims: { iat: NOW - 99, exp: NOW - 31 } }), 'expired'],
    ['not yet valid', good({ claims: { nbf: NOW + 31 } }), 'not_yet_valid'],
    ['issued in the future', good({ claims: { iat: NOW + 31 } }), 'issued_in_future'],
    ['too long-lived', good({ claims: { exp: NOW + 86_401 } }), 'too_long_lived'],
  ];
  test.for(faults)('%s', async ([, make, reason]) => {
    const bench = createBench();
    const token = await make();
    // The second time the verdict is remembered, and nothing else may change.
    for (let times = 0; times < 2; times += 1) {
      const failure = await failureOf(bench.authenticator.authenticate(requestWith({ 'x-api-key': token })));
      expect([failure.code, failure.status, failure.detail]).toEqual([
        'unauthorized',
        401,
        'The key was not accepted.',
      ]);
    }
    expect(bench.reasons()).toEqual([reason, reason]);
    if (token.length > 9) expect(JSON.stringify(bench.log)).not.toContain(token.split('.').at(-1) || token);
  });

  test('a caller’s key opens no link', async () => {
    const bench = createBench();
    const proof = { nonce: 'n', instance: 'instance-1', timeMs: NOW_MS, signature: 'x' };
    const failure = await failureOf(bench.authenticator.authenticateAgent(await callers.sign(), proof));
    expect([failure.code, failure.detail]).toEqual(['unauthorized', 'The key was not accepted.']);
    expect(bench.reasons()).toEqual(['wrong_issuer']);
  });

  test('log fields that a stranger writes are cut short', async () => {
    const bench = createBench();
    const token = await callers.sign({
      header: { kid: 'k'.repeat(2000) },
      claims: { jti: 'j'.repeat(2000) },
    });
    await failureOf(bench.authenticator.authenticate(bearer(token)));
    expect(bench.log).toMatchObject([
      { event: 'key_refused', kid: 'k'.repeat(128), issuer: callers.issuer, jti: 'j'.repeat(128) },
    ]);
    expect(JSON.stringify(bench.log).length).toBeLessThan(700);
  });

  test('one tenant’s key never speaks for another', async () => {
    const { authenticator } = createBench();
    const caller = await authenticator.authenticate(
      bearer(await others.sign({ claims: { tenant: 'acme' } })),
    );
    expect([caller.tenant, caller.principal]).toEqual(['others', 'others/alice']);
  });

  test('an operator’s issuer speaks for the tenant that its claim names', async () => {
    const { authenticator } = createAuthBench([{ issuer: callers, entry: { tenant_claim: 'org' } }]);
    const caller = await authenticator.authenticate(
      bearer(await callers.sign({ claims: { org: 'umbrella' } })),
    );
    expect(caller.principal).toBe('umbrella/alice');
  });
});

describe('Podgate-User', () => {
  const callAs = async (user: string, claims: Json = {}) => {
    const token = await callers.sign({ claims });
    return createBench().authenticator.authenticate(
      requestWith({ authorization: `Bearer ${token}`, 'podgate-user': user }),
    );
  };

  test('narrows the principal and leaves holder and rights as they are', async () => {
    const caller = await callAs('bob', { scope: 'execute' });
    expect(caller).toMatchObject({
      principal: 'acme/alice/bob',
      holder: 'acme/alice',
      user: 'bob',
      scopes: ['execute'],
    });
    expect(caller.principalDigest).not.toBe((await callAs('eve')).principalDigest);
  });

  test('never leads to another principal', async () => {
    expect((await callAs('../bob')).principal).toBe('acme/alice/..%2Fbob');
    expect((await callAs('b/c')).principal).not.toBe((await callAs('c', { sub: 'alice/b' })).principal);
    expect((await callAs('..')).principal).toBe('acme/alice/%2E%2E');
  });

  test('has 128 printable characters at most', async () => {
    expect((await callAs('u'.repeat(128))).user).toHaveLength(128);
    for (const user of ['u'.repeat(129), '', 'tab\there', 'é', '\u007f']) {
      const failure = await failureOf(callAs(user));
      expect([failure.code, failure.errors?.[0]?.path]).toEqual(['invalid_request', 'Podgate-User']);
    }
  });

  test('is not looked at before the key is', async () => {
    const request = requestWith({ authorization: 'Bearer x', 'podgate-user': 'é' });
    expect((await failureOf(createBench().authenticator.authenticate(request))).code).toBe('unauthorized');
  });
});
