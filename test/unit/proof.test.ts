import { beforeAll, describe, expect, test } from 'vitest';
import { formatCredential, isCredential, parseCredential } from '../../shared/credential.ts';
import { generateKeyPair, importSigningKey, type PrivateJwk } from '../../shared/key-set.ts';
import { type ProofParts, signProof, toOrigin, verifyProof } from '../../shared/proof.ts';
import { createKeyIssuer } from '../fakes/key-issuer.ts';

const parts: ProofParts = {
  nonce: 'n'.repeat(43),
  origin: 'https://gate.example',
  instance: 'instance-1',
  timeMs: 1_800_000_000_000,
};
let pair: PrivateJwk;
let signature: string;

beforeAll(async () => {
  pair = await generateKeyPair();
  signature = await signProof((await importSigningKey(pair)).key, parts);
});

describe('the proof of possession', () => {
  test('is Ed25519 over the lines of protocol.md 5.2', async () => {
    const lines = ['podgate-link-v1', parts.nonce, parts.origin, parts.instance, '1800000000000'].join('\n');
    const key = await crypto.subtle.importKey(
      'jwk',
      { kty: 'OKP', crv: 'Ed25519', x: pair.x },
      'Ed25519',
      false,
      ['verify'],
    );
    const bytes = Buffer.from(signature, 'base64url');
    expect(await crypto.subtle.verify('Ed25519', key, bytes, new TextEncoder().encode(lines))).toBe(true);
    expect(await verifyProof(pair, parts, signature)).toBe(true);
  });

  const changes: Partial<ProofParts>[] = [
    { nonce: 'm'.repeat(43) },
    { origin: 'https://evil.example' },
    { instance: 'instance-2' },
    { timeMs: parts.timeMs + 1 },
  ];
  test.for(changes)('does not hold with %j', async (change) => {
    expect(await verifyProof(pair, { ...parts, ...change }, signature)).toBe(false);
  });

  test('does not hold by another key, or with a signature that is none', async () => {
    expect(await verifyProof(await generateKeyPair(), parts, signature)).toBe(false);
    for (const wrong of ['', 'x', `${signature}=`, `${signature}A`, signature.slice(2), '*'.repeat(86)]) {
      expect(await verifyProof(pair, parts, wrong)).toBe(false);
    }
  });

  test('does not hold by a key that is none', async () => {
    expect(await verifyProof({ kty: 'OKP', crv: 'Ed25519', x: 'short' }, parts, signature)).toBe(false);
  });

  test('is not made over a part that could be two lines', async () => {
    const { key } = await importSigningKey(pair);
    await expect(signProof(key, { ...parts, instance: 'a\nb' })).rejects.toThrow(RangeError);
    await expect(signProof(key, { ...parts, timeMs: 1.5 })).rejects.toThrow(RangeError);
    expect(await verifyProof(pair, { ...parts, instance: 'a\nb' }, signature)).toBe(false);
  });

  test('names one origin however the URL is written', () => {
    for (const url of [
      'https://Gate.example',
      'wss://gate.example:443/v1/agents/link?x',
      'https://k:p@gate.example/',
    ]) {
      expect(toOrigin(url)).toBe('https://gate.example');
    }
    expect(toOrigin('ws://[::1]:8000/')).toBe('http://[::1]:8000');
    for (const url of ['ftp://x', 'gate.example', 'file:///x', '']) expect(() => toOrigin(url)).toThrow();
  });
});

describe('an agent’s credential', () => {
  test('is one word that carries token and key', async () => {
    const issuer = await createKeyIssuer({ kind: 'agents' });
    const credential = { token: await issuer.sign(), key: pair };
    const text = formatCredential(credential);
    expect(text).toMatch(/^podgate_agent_[A-Za-z0-9_-]+$/);
    expect(isCredential(text)).toBe(true);
    expect(parseCredential(` ${text}\n`)).toEqual(credential);
  });

  test('that cannot be read is refused without showing it', async () => {
    const { d: _, ...half } = pair;
    const texts = [
      '',
      'podgate_agent_',
      'podgate_agent_secret!',
      formatCredential({ token: 'no-token', key: pair }),
      formatCredential({ token: 'a.b.c', key: half as PrivateJwk }),
      `podgate_agent_${'A'.repeat(20_000)}`,
    ];
    for (const text of texts) {
      expect(() => parseCredential(text)).toThrow(/podgate agents token/);
      expect(() => parseCredential(text)).not.toThrow(/secret|no-token/);
    }
  });
});
