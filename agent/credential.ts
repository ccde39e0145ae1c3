import { type AgentCredential, parseCredential, requireNamed } from '../shared/credential.ts';
import { importEd25519 } from '../shared/jose.ts';
import { signProof, toOrigin } from '../shared/proof.ts';
import type { Secret } from '../shared/secret.ts';
import type { Clock } from './clock.ts';
import type { Prove } from './link/link.ts';
import type { Log } from './log.ts';

export type ProverDeps = {
  /** The credential bundle as it is now: a file may hold a newer token each time it is asked for. */
  credential: () => Secret;
  /** Names of the clusters that it is to serve. */
  clusters: () => readonly string[];
  gatewayUrl: URL;
  instance: string;
  clock: Clock;
  log: Log;
};

/** Signs a gateway's nonce with the key that the agent's token is bound to. The key does not leave this function. */
export function createProver(deps: ProverDeps): Prove {
  const { credential, clusters, gatewayUrl, instance, clock, log } = deps;
  const origin = toOrigin(gatewayUrl.href);
  let lastGood: Secret | undefined;

  function current(): AgentCredential {
    try {
      const given = credential();
      const parsed = parseCredential(given.reveal());
      lastGood = given;
      return parsed;
    } catch (cause) {
      if (lastGood === undefined) throw cause;
      // A file that is just being written: whether the token is still good is the gateway's to say.
      log('credential_unreadable', { kept: 'last_good', cause });
      return parseCredential(lastGood.reveal());
    }
  }

  return async (nonce) => {
    const { token, key } = current();
    requireNamed(token, clusters());
    const time = clock.wall();
    const signature = await signProof(await importEd25519(key), { nonce, origin, instance, timeMs: time });
    return { token, time, signature };
  };
}
