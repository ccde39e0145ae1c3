import { beforeAll, describe, expect, test } from 'vitest';
import { generateKeyPair, importSigningKey, type PrivateJwk } from '../../shared/key-set.ts';
import { HELLO_SKEW_MS } from '../../shared/limits.ts';
import { type ProofParts, signProof } from '../../shared/proof.ts';
import { createAuthBench, ORIGIN } from '../fakes/auth-bench.ts';
import { createKeyIssuer, type KeyIssuer, NOW, NOW_MS } from '../fakes/key-issuer.ts';

let agents: KeyIssuer;
let pair: PrivateJwk;
let token: string;

beforeAll(async () => {
  pair = await generateKeyPair();
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: pair.x };
  agents = await createKeyIssuer({
    kind: 'agents',
    kid: 'a1',
    claims: { clusters: ['lab', 'eu-*'], cnf: { jwk } },
  });
  token = await agents.sign({ claims: { sub: 'agent-1', max_instances: 2 } });
});

const challenge = { nonce: 'n'.repeat(43), instance: 'instance-1', timeMs: NOW_MS };

async function prove(signed: Partial<ProofParts> = {}, key: PrivateJwk = pair) {
  const parts = { ...challenge, origin: ORIGIN, ...signed };
  return { ...challenge, signature: await signProof((await importSigningKey(key)).key, parts) };
}

const createBench = (origins?: string[]) => createAuthBench([{ issuer: agents }], origins ? { origins } : {});

describe('an agent', () => {
  test('joins with its token and the proof that it holds the key', async () => {
    expect(await createBench().authenticator.authenticateAgent(token, await prove())).toEqual({
      kind: 'agents',
      tenant: 'acme',
      clusters: ['lab', 'eu-*'],
      sub: 'agent-1',
      jti: 'token-1',
      kid: 'a1',
      signedBy: agents.jwks.keys[0]?.x,
      issuer: agents.issuer,
      thumbprint: pair.kid,
      maxInstances: 2,
      expiresAtMs: (NOW + 3600 + 30) * 1000,
    });
  });

  test('joins at any origin that the gateway has, however it is written', async () => {
    const bench = createBench(['https://other.example', 'https://GATE.example:443/']);
    await bench.authenticator.authenticateAgent(token, await prove());
  });

  const faults: [why: string, signed: Partial<ProofParts>][] = [
    ['of another socket', { nonce: 'm'.repeat(43) }],
    ['for another gateway', { origin: 'https://evil.example' }],
    ['of another instance', { instance: 'instance-2' }],
    ['of another time', { timeMs: NOW_MS - 1 }],
  ];
  test.for(faults)('does not join with a proof %s', async ([, signed]) => {
    const bench = createBench();
    await expect(bench.authenticator.authenticateAgent(token, await prove(signed))).rejects.toMatchObject({
      code: 'unauthorized',
      detail: 'The key was not accepted.',
    });
    expect(bench.log).toMatchObject([{ event: 'key_refused', reason: 'bad_proof', origins: ORIGIN }]);
  });

  test('does not join with a stolen token and a key of its own', async () => {
    const bench = createBench();
    const proof = await prove({}, await generateKeyPair());
    await expect(bench.authenticator.authenticateAgent(token, proof)).rejects.toMatchObject({
      code: 'unauthorized',
    });
  });

  test('does not join with its issuer’s key in place of the bound one', async () => {
    const bench = createBench();
    const other = await agents.sign({
      claims: { cnf: { jwk: { kty: 'OKP', crv: 'Ed25519', x: agents.jwk.x } } },
    });
    await expect(bench.authenticator.authenticateAgent(other, await prove())).rejects.toThrow();
  });

  test('has a clock within 60 s', async () => {
    for (const [offset, good] of [
      [HELLO_SKEW_MS, true],
      [-HELLO_SKEW_MS, true],
      [HELLO_SKEW_MS + 1, false],
      [-HELLO_SKEW_MS - 1, false],
    ] as const) {
      const bench = createBench();
      const timeMs = NOW_MS + offset;
      const proof = { ...(await prove({ timeMs })), timeMs };
      const joined = bench.authenticator.authenticateAgent(token, proof);
      if (good) await joined;
      else await expect(joined).rejects.toMatchObject({ code: 'unauthorized' });
    }
    const nan = { ...(await prove()), timeMs: Number.NaN };
    await expect(createBench().authenticator.authenticateAgent(token, nan)).rejects.toThrow();
  });

  test('joins as soon as its issuer’s keys can be read, however lately it was refused', async () => {
    const bench = createAuthBench([{ issuer: agents, entry: { jwks_file: '/jwks' } }]);
    await bench.authenticator.refresh();
    await expect(bench.authenticator.authenticateAgent(token, await prove())).rejects.toThrow();
    bench.documents.set('/jwks', JSON.stringify(agents.jwks));
    await bench.authenticator.refresh();
    await bench.authenticator.authenticateAgent(token, await prove());
  });

  test('that is revoked does not join, and its link ends', async () => {
    const bench = createAuthBench([{ issuer: agents }], { denyList: { url: 'https://id.example/deny' } });
    bench.documents.set('https://id.example/deny', '');
    await bench.authenticator.refresh();
    const agent = await bench.authenticator.authenticateAgent(token, await prove());
    const watch = bench.authenticator.watchRevocation(agent);
    bench.documents.set('https://id.example/deny', `${agents.issuer} agent-1\n`);
    await bench.authenticator.refresh();
    expect(watch.signal.aborted).toBe(true);
    await expect(bench.authenticator.authenticateAgent(token, await prove())).rejects.toThrow();
  });
});
