import { generateKeyPair, importSigningKey } from '../../shared/key-set.ts';
import { signProof } from '../../shared/proof.ts';
import { ORIGIN } from './auth-bench.ts';
import type { Json, KeyIssuer } from './key-issuer.ts';

/** Who a mock agent is: a token and the key that it is bound to. */
export type AgentIdentity = {
  readonly token: string;
  /** What HELLO and AUTH_REFRESH carry beside the token. */
  prove(
    nonce: string,
    instance: string,
    timeMs: number,
    origin?: string,
  ): Promise<{ time: number; signature: string }>;
};

/** A token for a fresh key. `claims` change the token; `key` proves with another key than the token's. */
export async function createAgentIdentity(
  issuer: KeyIssuer,
  { claims = {}, stolen = false }: { claims?: Json; stolen?: boolean } = {},
): Promise<AgentIdentity> {
  const bound = await generateKeyPair();
  const held = stolen ? await generateKeyPair() : bound;
  const { key } = await importSigningKey(held);
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: bound.x };
  const token = await issuer.sign({
    claims: { sub: 'agent', jti: 'agent-1', clusters: ['*'], cnf: { jwk }, ...claims },
  });
  return {
    token,
    async prove(nonce, instance, timeMs, origin = ORIGIN) {
      return { time: timeMs, signature: await signProof(key, { nonce, origin, instance, timeMs }) };
    },
  };
}
