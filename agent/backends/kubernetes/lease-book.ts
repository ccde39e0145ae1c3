import { LABEL } from '../labels.ts';
import type { Lease } from './kube-objects.ts';

/** Time past its duration that a Lease has before its instance counts as dead. */
export const LEASE_SLACK_MS = 5_000;

type Entry = { lease: Lease; renewTime: string; unchangedSinceMs: number };

/**
 * Who lives, judged as leader election does: by how long a Lease has stood unchanged before this observer's own eyes.
 * The times inside it are another machine's, and say nothing.
 */
export class LeaseBook {
  #entries = new Map<string, Entry>();
  #observedMs = 0;
  readonly #slackMs: number;

  constructor(slackMs = LEASE_SLACK_MS) {
    this.#slackMs = slackMs;
  }

  /**
   * Takes a list of all the installation's Leases, made at `nowMs` (monotonic). What stood unchanged before `provenMs`,
   * or while nobody looked for as long as it lasts, proves nothing.
   */
  observe(leases: readonly Lease[], nowMs: number, provenMs = Number.NEGATIVE_INFINITY): void {
    const entries = new Map<string, Entry>();
    for (const lease of leases) {
      const uid = lease.metadata?.uid ?? '';
      const renewTime = lease.spec?.renewTime ?? '';
      const known = this.#entries.get(uid);
      const isWatched = nowMs - this.#observedMs <= this.#lastsMs(lease);
      const unchanged = isWatched && known?.renewTime === renewTime;
      const unchangedSinceMs = unchanged ? Math.max(known.unchangedSinceMs, provenMs) : nowMs;
      entries.set(uid, { lease, renewTime, unchangedSinceMs });
    }
    this.#entries = entries;
    this.#observedMs = nowMs;
  }

  /** What could not be observed proves nothing: after a gap every Lease gets its whole time again. */
  forget(): void {
    this.#entries.clear();
  }

  /** Leases that nobody has renewed for longer than they last. */
  expired(nowMs: number): Lease[] {
    return [...this.#entries.values()]
      .filter((entry) => this.#isExpired(entry, nowMs))
      .map(({ lease }) => lease);
  }

  /** Values of the instance label that a Lease stands for, dead or alive. */
  instances(): Set<string> {
    return new Set(
      [...this.#entries.values()].map(({ lease }) => lease.metadata?.labels?.[LABEL.instance] ?? ''),
    );
  }

  /** The oldest living Lease: its holder leads. Two leaders for a moment do no harm, as every deletion has a precondition. */
  leader(nowMs: number): Lease | undefined {
    const living = [...this.#entries.values()].filter((entry) => !this.#isExpired(entry, nowMs));
    const age = ({ lease: { metadata } }: Entry) => `${metadata?.creationTimestamp} ${metadata?.name}`;
    return living.sort((a, b) => (age(a) < age(b) ? -1 : 1))[0]?.lease;
  }

  #isExpired({ lease, unchangedSinceMs }: Entry, nowMs: number): boolean {
    return nowMs - unchangedSinceMs > this.#lastsMs(lease);
  }

  #lastsMs({ spec }: Lease): number {
    return (spec?.leaseDurationSeconds ?? 0) * 1000 + this.#slackMs;
  }
}
