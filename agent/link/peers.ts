import { MAX_PEERS, RECORD_TTL_MS } from '../../shared/limits.ts';
import type { Clock } from '../clock.ts';

/** Other instances of the tenant, as gateways told of them: a gateway that has just begun learns from it who may be away. */
export type Peers = {
  told(names: readonly string[]): void;
  known(): string[];
};

export function createPeers(clock: Pick<Clock, 'now'>): Peers {
  /** The one that was told of longest ago comes first. */
  const untilMs = new Map<string, number>();

  function forget(): void {
    for (const [name, until] of untilMs) {
      if (until > clock.now() && untilMs.size <= MAX_PEERS) return;
      untilMs.delete(name);
    }
  }

  return {
    told(names) {
      for (const name of names) {
        untilMs.delete(name);
        untilMs.set(name, clock.now() + RECORD_TTL_MS);
      }
      forget();
    },
    known() {
      forget();
      return [...untilMs.keys()];
    },
  };
}
