import { generateKeyPairSync, sign as signWith } from 'node:crypto';
import { CompactSign, SignJWT } from 'jose';
import { beforeAll, describe, expect, test } from 'vitest';
import type { KeyKind } from '../../shared/claims.ts';
import { importEd25519 } from '../../shared/jose.ts';
import {
  generateKeyPair,
  importKeySet,
  importSigningKey,
  type KeySet,
  toPublicJwk,
} from '../../shared/key-set.ts';
import { MAX_TOKEN_BYTES, randomId, readToken, signKey, type Trust, verifyKey } from '../../shared/keys.ts';
import {
  createKeyIssuer,
  type Json,
  type KeyIssuer,
  NOW,
  NOW_MS,
  signHmac,
  signingInput,
} from '../fakes/key-issuer.ts';

let caller: KeyIssuer;
let agent: KeyIssuer;
let stranger: KeyIssuer;
let agentKey: Json;

beforeAll(async () => {
  caller = await createKeyIssuer({ kid: 'k1' });
  const { kty, crv, x } = await generateKeyPair();
  agentKey = { kty, crv, x };
  agent = await createKeyIssuer({ kind: 'agents', claims: { clusters: ['lab'], cnf: { jwk: agentKey } } });
  stranger = await createKeyIssuer({ kid: 'k1' });
});

const MAX_LIFETIME_SECONDS = 86_400;

async function verify<Kind extends KeyKind>(
  issuer: KeyIssuer,
  kind: Kind,
  token: string,
  changes: { trust?: Partial<Trust>; nowMs?: number; keys?: KeySet } = {},
) {
  const trust: Trust = {
    issuer: issuer.issuer,
    audience: kind === 'callers' ? 'podgate' : 'podgate-agent',
    tenant: 'acme',
    maxLifetimeSeconds: MAX_LIFETIME_SECONDS,
    ...changes.trust,
  };
  const keys = changes.keys ?? (await importKeySet(issuer.jwks));
  return verifyKey(token, {
    kind,
    trust,
    nowMs: changes.nowMs ?? NOW_MS,
    findKey: async (kid) => keys.get(kid),
  });
}

async function verifyCaller(token: string, changes: Parameters<typeof verify>[3] = {}): Promise<string> {
  const verdict = await verify(caller, 'callers', token, changes);
  return verdict.ok ? 'accepted' : verdict.reason;
}

describe('a good key', () => {
  test('is accepted with its claims, tenant and signer', async () => {
    const claims = {
      scope: 'execute',
      clusters: ['lab', 'eu-*'],
      limits: { concurrency: 3 },
      templates: ['py*'],
    };
    const verdict = await verify(caller, 'callers', await caller.sign({ claims }));
    expect(verdict).toMatchObject({ ok: true, tenant: 'acme', claims, signer: { kid: 'k1' } });
  });

  test('signed by jose itself is accepted', async () => {
    const pair = await generateKeyPair('other');
    const token = await new SignJWT(caller.claims())
      .setProtectedHeader({ alg: 'EdDSA', typ: 'podgate-key+jwt', kid: 'other' })
      .sign(await importEd25519(pair));
    expect(await verifyCaller(token, { keys: await importKeySet({ keys: [toPublicJwk(pair)] }) })).toBe(
      'accepted',
    );
  });

  test('signed by signKey is accepted, for callers and for agents', async () => {
    const pair = await generateKeyPair();
    const keys = await importKeySet({ keys: [toPublicJwk(pair)] });
    const signingKey = await importSigningKey(pair);
    const key = await signKey('callers', caller.claims() as never, signingKey);
    expect(await verify(caller, 'callers', key, { keys })).toMatchObject({ ok: true });
    const token = await signKey('agents', agent.claims({ max_instances: 2 }) as never, signingKey);
    expect(await verify(agent, 'agents', token, { keys })).toMatchObject({
      ok: true,
      claims: { max_instances: 2 },
    });
  });

  test('is accepted where its audience is one of several', async () => {
    expect(await verifyCaller(await caller.sign({ claims: { aud: ['other', 'podgate'] } }))).toBe('accepted');
  });

  test('takes its tenant from the claim that its issuer is configured with', async () => {
    const trust = { tenant: undefined, tenantClaim: 'org' };
    const token = await caller.sign({ claims: { org: 'umbrella' } });
    expect(await verify(caller, 'callers', token, { trust })).toMatchObject({ ok: true, tenant: 'umbrella' });
  });

  test('cannot name a tenant where its issuer speaks for one', async () => {
    const token = await caller.sign({ claims: { tenant: 'other', org: 'other' } });
    expect(await verify(caller, 'callers', token)).toMatchObject({ ok: true, tenant: 'acme' });
  });
});

describe('times hold to the second', () => {
  const cases: [claims: Json, verdict: string][] = [
    [{ iat: NOW + 30 }, 'accepted'],
    [{ iat: NOW + 31 }, 'issued_in_future'],
    [{ nbf: NOW + 30 }, 'accepted'],
    [{ nbf: NOW + 31 }, 'not_yet_valid'],
    [{ iat: NOW - 100, exp: NOW - 29 }, 'accepted'],
    [{ iat: NOW - 100, exp: NOW - 30 }, 'expired'],
    [{ exp: NOW + MAX_LIFETIME_SECONDS }, 'accepted'],
    [{ exp: NOW + MAX_LIFETIME_SECONDS + 1 }, 'too_long_lived'],
    // A lifetime is from issue to end: waiting does not make a long-lived key good.
    [{ iat: NOW - MAX_LIFETIME_SECONDS, exp: NOW + 1 }, 'too_long_lived'],
  ];
  test.for(cases)('%j: %s', async ([claims, verdict]) => {
    expect(await verifyCaller(await caller.sign({ claims }))).toBe(verdict);
  });
});

describe('a key is refused', () => {
  const byClaims: [why: string, claims: Json, reason: string][] = [
    ['of another issuer', { iss: 'somebody' }, 'wrong_issuer'],
    ['for another audience', { aud: 'other' }, 'wrong_audience'],
    ['for the agents’ audience', { aud: 'podgate-agent' }, 'wrong_audience'],
    ['for an audience that only begins alike', { aud: 'podgate2' }, 'wrong_audience'],
    ...['iss', 'aud', 'sub', 'jti', 'iat', 'exp'].map((name): [string, Json, string] => [
      `without ${name}`,
      { [name]: undefined },
      'bad_claims',
    ]),
    ...['iat', 'exp', 'nbf'].map((name): [string, Json, string] => [
      `with ${name} as text`,
      { [name]: String(NOW) },
      'bad_claims',
    ]),
    ['with an end beyond all dates', { exp: 1e300 }, 'bad_claims'],
    ['with an empty sub', { sub: '' }, 'bad_claims'],
    ['with half a character as sub', { sub: '\ud800' }, 'bad_claims'],
    ['with a sub that is too long', { sub: 'a'.repeat(513) }, 'bad_claims'],
    ['with a sub that is too long once escaped', { sub: 'ä'.repeat(86) }, 'bad_claims'],
    ['with a jti that has a space', { jti: 'a b' }, 'bad_claims'],
    ['with a * inside a name', { clusters: ['a*b'] }, 'bad_claims'],
    ['with no cluster in its list', { clusters: [] }, 'bad_claims'],
    ['with clusters as text', { clusters: 'lab' }, 'bad_claims'],
    ['with a scope that is a list', { scope: ['execute'] }, 'bad_claims'],
    ['with a ceiling that nobody knows', { limits: { gpus: 1 } }, 'bad_claims'],
    ['with a ceiling below zero', { limits: { concurrency: -1 } }, 'bad_claims'],
    ['with a ceiling as text', { limits: { timeout_ms: '5' } }, 'bad_claims'],
  ];
  test.for(byClaims)('%s', async ([, claims, reason]) => {
    expect(await verifyCaller(await caller.sign({ claims }))).toBe(reason);
  });

  const byHeader: [why: string, header: Json, reason: string][] = [
    ['without a kid', { kid: undefined }, 'no_kid'],
    ['with an empty kid', { kid: '' }, 'no_kid'],
    ['with a kid that is no text', { kid: 1 }, 'no_kid'],
    ['with an unknown kid', { kid: 'k2' }, 'unknown_kid'],
    ['with a kid that every object has', { kid: '__proto__' }, 'unknown_kid'],
    ['with a kid that is a path', { kid: '../../etc/passwd' }, 'unknown_kid'],
    ['of type JWT', { typ: 'JWT' }, 'wrong_typ'],
    ['of the agents’ type', { typ: 'podgate-agent+jwt' }, 'wrong_typ'],
    ['without a type', { typ: undefined }, 'wrong_typ'],
    ['with alg Ed25519', { alg: 'Ed25519' }, 'wrong_alg'],
    ['with alg none and a good signature', { alg: 'none' }, 'wrong_alg'],
    ['with crit', { crit: ['exp'], exp: 1 }, 'malformed'],
    ['with crit that is empty', { crit: [] }, 'malformed'],
    ['with an unencoded payload', { crit: ['b64'], b64: false }, 'malformed'],
    ['with an unencoded payload that it does not call critical', { b64: false }, 'malformed'],
  ];
  test.for(byHeader)('%s', async ([, header, reason]) => {
    expect(await verifyCaller(await caller.sign({ header }))).toBe(reason);
  });

  test('that brings its own key', async () => {
    const header = { jwk: stranger.jwk, jku: 'https://evil.example/jwks', x5u: 'https://evil.example/x' };
    expect(await verifyCaller(await stranger.sign({ header: { ...header, kid: 'k1' } }))).toBe(
      'bad_signature',
    );
  });

  test('that another issuer signed under the same kid', async () => {
    expect(await verifyCaller(await stranger.sign({ claims: { iss: caller.issuer } }))).toBe('bad_signature');
  });

  test('with alg none and no signature, in every spelling', async () => {
    for (const alg of ['none', 'None', 'NONE', 'nOnE', '']) {
      const header = JSON.stringify({ alg, typ: 'podgate-key+jwt', kid: 'k1' });
      const input = signingInput(header, JSON.stringify(caller.claims()));
      expect(await verifyCaller(`${input}.`)).toBe('wrong_alg');
    }
  });

  test('signed with HS256 and the public key as its secret, in every spelling', async () => {
    const raw = Buffer.from(caller.jwk.x, 'base64url');
    const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), raw]);
    const pem = `-----BEGIN PUBLIC KEY-----\n${spki.toString('base64')}\n-----END PUBLIC KEY-----\n`;
    for (const secret of [raw, caller.jwk.x, spki, pem, JSON.stringify(caller.jwk)]) {
      for (const alg of ['HS256', 'EdDSA']) {
        const token = signHmac({ alg, typ: 'podgate-key+jwt', kid: 'k1' }, caller.claims(), secret);
        expect(await verifyCaller(token)).toBe(alg === 'HS256' ? 'wrong_alg' : 'bad_signature');
      }
    }
  });

  test('signed with another algorithm, whose public key is in the set beside', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const token = await new CompactSign(Buffer.from(JSON.stringify(caller.claims())))
      .setProtectedHeader({ alg: 'ES256', typ: 'podgate-key+jwt', kid: 'ec' })
      .sign(privateKey);
    const keys = await importKeySet({
      keys: [...caller.jwks.keys, { ...publicKey.export({ format: 'jwk' }), kid: 'ec', alg: 'ES256' }],
    });
    expect(await verifyCaller(token, { keys })).toBe('wrong_alg');
    const input = signingInput(
      JSON.stringify({ alg: 'EdDSA', typ: 'podgate-key+jwt', kid: 'ec' }),
      JSON.stringify(caller.claims()),
    );
    const signature = signWith('sha256', Buffer.from(input), privateKey).toString('base64url');
    expect(await verifyCaller(`${input}.${signature}`, { keys })).toBe('unknown_kid');
  });

  test('with one bit of header, payload or signature turned', async () => {
    const parts = (await caller.sign()).split('.');
    for (const index of [0, 1, 2]) {
      const bytes = Buffer.from(parts[index] ?? '', 'base64url');
      for (let at = 0; at < bytes.length; at += 7) {
        const turned = Buffer.from(bytes);
        turned[at] = (turned[at] ?? 0) ^ 1;
        const token = parts.with(index, turned.toString('base64url')).join('.');
        expect(await verifyCaller(token)).not.toBe('accepted');
      }
    }
  });

  test('whose tenant claim is missing, no text, or no name', async () => {
    const trust = { tenant: undefined, tenantClaim: 'org' };
    for (const org of [undefined, '', 7, ['acme'], '..', 'a/b', 'a b', 'x'.repeat(101)]) {
      expect(await verifyCaller(await caller.sign({ claims: { org } }), { trust })).toBe('no_tenant');
    }
    const inherited = { tenant: undefined, tenantClaim: 'constructor' };
    expect(await verifyCaller(await caller.sign(), { trust: inherited })).toBe('no_tenant');
  });
});

describe('text that is no token is refused', () => {
  const texts: [text: string, reason: string][] = [
    ['', 'malformed'],
    ['x', 'malformed'],
    ['a.b.c', 'malformed'],
    ['..', 'malformed'],
    ['a.b', 'malformed'],
    ['a.b.c.d.e', 'malformed'],
    ['{}', 'malformed'],
    [`${Buffer.from('[]').toString('base64url')}.e30.x`, 'malformed'],
    [`${Buffer.from('null').toString('base64url')}.e30.x`, 'malformed'],
    [`${Buffer.from('"a"').toString('base64url')}.e30.x`, 'malformed'],
    ['é.é.é', 'malformed'],
  ];
  test.for(texts)('%j', async ([text, reason]) => {
    expect(await verifyCaller(text)).toBe(reason);
  });

  test('a good token with spaces, padding or base64 of the other alphabet', async () => {
    const token = await caller.sign();
    for (const text of [` ${token}`, `${token}\n`, `${token}=`, token.replace('.', '=.'), `${token}.`]) {
      expect(await verifyCaller(text)).not.toBe('accepted');
    }
  });

  test('a token with a name twice in its header or its claims, however it is spelt', async () => {
    const header = '{"alg":"EdDSA","typ":"podgate-key+jwt","kid":"k1"}';
    const claims = JSON.stringify(caller.claims());
    expect(await verifyCaller(await caller.signRaw(header, claims))).toBe('accepted');
    for (const twice of [
      header.replace('{', '{"alg":"none",'),
      header.replace('}', ', "k\\u0069d" : "k2"}'),
    ]) {
      expect(await verifyCaller(await caller.signRaw(twice, claims))).toBe('malformed');
    }
    const two = claims.replace('{', '{"sub":"root",');
    expect(await verifyCaller(await caller.signRaw(header, two))).toBe('malformed');
  });

  test('a token of MAX_TOKEN_BYTES is looked at, one byte more is not', async () => {
    const header = JSON.stringify({ alg: 'EdDSA', typ: 'podgate-key+jwt', kid: 'k1' });
    const signPadded = (pad: number, blanks: number) =>
      caller.signRaw(header + ' '.repeat(blanks), JSON.stringify(caller.claims({ pad: 'x'.repeat(pad) })));
    // Base64url has no length of 4n + 1: two paddings together reach every sum.
    const base = (await signPadded(0, 0)).length;
    const near = Math.floor(((MAX_TOKEN_BYTES - base) * 3) / 4) - 4;
    let token = '';
    for (let pad = near; token.length !== MAX_TOKEN_BYTES && pad < near + 9; pad += 1) {
      for (let blanks = 0; token.length !== MAX_TOKEN_BYTES && blanks < 3; blanks += 1) {
        token = await signPadded(pad, blanks);
      }
    }
    expect(token.length).toBe(MAX_TOKEN_BYTES);
    expect(await verifyCaller(token)).toBe('accepted');
    expect(await verifyCaller(`${token}x`)).toBe('too_large');
    expect(await verifyCaller('x'.repeat(50_000_000))).toBe('too_large');
    expect(readToken('x'.repeat(MAX_TOKEN_BYTES + 1))).toEqual({ ok: false, reason: 'too_large' });
  });
});

describe('callers and agents', () => {
  test('an agent’s token is no caller’s key, even from the same issuer with the same key', async () => {
    const token = await agent.sign();
    expect(await verify(agent, 'callers', token)).toMatchObject({ ok: false, reason: 'wrong_typ' });
    const both = await agent.sign({ claims: { aud: ['podgate', 'podgate-agent'] } });
    expect(await verify(agent, 'callers', both)).toMatchObject({ ok: false, reason: 'wrong_typ' });
  });

  test('a caller’s key is no agent’s token, even with an agent’s claims', async () => {
    const token = await caller.sign({
      claims: { aud: 'podgate-agent', clusters: ['lab'], cnf: { jwk: agentKey } },
    });
    expect(await verify(caller, 'agents', token)).toMatchObject({ ok: false, reason: 'wrong_typ' });
  });

  const faults: [why: string, claims: () => Json][] = [
    ['without clusters', () => ({ clusters: undefined })],
    ['for no cluster', () => ({ clusters: [] })],
    ['bound to no key', () => ({ cnf: undefined })],
    ['bound to a thumbprint only', () => ({ cnf: { jkt: 'x' } })],
    ['bound to a key of another curve', () => ({ cnf: { jwk: { ...agentKey, crv: 'X25519' } } })],
    [
      'bound to a key that shows its private half',
      () => ({ cnf: { jwk: { ...agentKey, d: 'A'.repeat(43) } } }),
    ],
    ['for no instance', () => ({ max_instances: 0 })],
  ];
  test.for(faults)('an agent’s token %s is refused', async ([, claims]) => {
    const token = await agent.sign({ claims: claims() });
    expect(await verify(agent, 'agents', token)).toMatchObject({ ok: false, reason: 'bad_claims' });
  });
});

describe('sets of keys', () => {
  test('pass over keys of other types and uses', async () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const ec = { ...publicKey.export({ format: 'jwk' }), kid: 'ec' };
    const encrypting = { ...caller.jwks.keys[0], kid: 'enc', use: 'enc' };
    const nameless = { ...caller.jwks.keys[0], kid: undefined };
    const set = await importKeySet({ keys: [ec, encrypting, nameless, ...caller.jwks.keys] });
    expect([...set.keys()]).toEqual(['k1']);
  });

  test('refuse a private key, a secret, two keys of one kid, and a set without a key', async () => {
    const pair = await generateKeyPair('k1');
    await expect(importKeySet({ keys: [pair] })).rejects.toThrow(/private or secret/);
    await expect(importKeySet({ keys: [{ kty: 'oct', k: 'AAAA', kid: 'x' }] })).rejects.toThrow(
      /private or secret/,
    );
    await expect(importKeySet({ keys: [...caller.jwks.keys, toPublicJwk(pair)] })).rejects.toThrow(/kid/);
    await expect(importKeySet({ keys: [] })).rejects.toThrow(/no Ed25519 key/);
    await expect(importKeySet({})).rejects.toThrow();
  });

  test('never hold a key that can be taken out again', async () => {
    const key = (await importKeySet(caller.jwks)).get('k1')?.key;
    const signing = await importSigningKey(await generateKeyPair());
    expect([key?.usages, signing.key.usages, signing.key.extractable]).toEqual([['verify'], ['sign'], false]);
  });

  test('show public halves without a private member', async () => {
    expect(JSON.stringify(toPublicJwk(await generateKeyPair()))).not.toContain('"d"');
  });
});

test('signKey refuses to sign what verifyKey would refuse', async () => {
  const signingKey = await importSigningKey(await generateKeyPair());
  await expect(signKey('callers', caller.claims({ sub: '' }) as never, signingKey)).rejects.toThrow();
  await expect(
    signKey('callers', caller.claims({ pad: 'x'.repeat(8192) }) as never, signingKey),
  ).rejects.toThrow(RangeError);
});

test('random ids differ and have the bytes asked for', () => {
  expect(randomId()).not.toBe(randomId());
  expect(Buffer.from(randomId(32), 'base64url')).toHaveLength(32);
});
