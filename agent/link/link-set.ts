import { closeCode } from '../../shared/errors.ts';
import { createBackoff } from '../backoff.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Link, LinkDeps } from './link.ts';
import type { LinkEnd } from './link-state.ts';
import { isSurplus, wantsLink } from './plan-links.ts';
import { RECONNECT_BASE_MS, RECONNECT_MAX_MS, SEARCH_AGAIN_MS, STABLE_MS } from './timings.ts';

/** Why the set looked at itself: for the log, and so that every cause has a name. */
export type WakeReason =
  | 'boot'
  | 'joined'
  | 'surplus'
  | 'goaway'
  | 'link_ended'
  | 'wait_over'
  | 'search_again';

/** WebSocket close code of a link that is let go because its replica has enough. */
const NORMAL_CLOSURE = 1000;

export type LinkSetDeps = {
  /** Dials one link. */
  connect: (handlers: Pick<LinkDeps, 'onJoined' | 'onLeave' | 'onEnded'>) => Link;
  clock: Clock;
  random: () => number;
  log: Log;
  /** A link may be given work. */
  onJoined: (link: Link) => void;
  /** A link may be given none any more. Called once for each that joined. */
  onGone: (link: Link) => void;
};

export type LinkSet = {
  start(): void;
  /** Every link that there is, also those on their way and on their way out. */
  links(): readonly Link[];
  /** Dials no more; the links there are stay. */
  hold(): void;
  /** Lets every link go. */
  close(): void;
};

/**
 * Keeps LINKS_PER_REPLICA links to every gateway replica it finds. One loop decides, whatever woke it; one dial is under
 * way at a time; after a failure it waits with full jitter, so that agents that lost the same gateway do not return
 * together.
 */
export function createLinkSet({ connect, clock, random, log, onJoined, onGone }: LinkSetDeps): LinkSet {
  const links = new Map<Link, { joined: boolean; leaving: boolean; stable: CancelTimer }>();
  const backoff = createBackoff({ baseMs: RECONNECT_BASE_MS, maxMs: RECONNECT_MAX_MS, random });
  let replicas = 1;
  let misses = 0;
  let waitUntilMs = 0;
  let cancelWait: CancelTimer | undefined;
  let cancelSearch: CancelTimer | undefined;
  let held = false;

  function planned(except?: Link) {
    return [...links].flatMap(([link, { joined, leaving }]) =>
      link === except ? [] : [{ serverId: joined ? link.serverId : null, leaving }],
    );
  }

  function reconcile(reason: WakeReason): void {
    if (held || !wantsLink({ links: planned(), replicas, misses })) return;
    const waitMs = waitUntilMs - clock.now();
    if (waitMs > 0) {
      cancelWait?.();
      cancelWait = clock.after(waitMs, () => reconcile('wait_over'));
      return;
    }
    log('link_dial', { reason, links: links.size, replicas, misses });
    const link = connect({ onJoined: joined, onLeave: leave, onEnded: ended });
    // A link that failed in the dial itself has ended before it was known.
    if (link.phase !== 'ended') links.set(link, { joined: false, leaving: false, stable: () => {} });
  }

  function joined(link: Link, told: number): void {
    const known = links.get(link);
    const { serverId } = link;
    if (!known || serverId === null) return;
    replicas = told;
    if (isSurplus(serverId, planned(link))) {
      misses += 1;
      // Looked for again later: replicas come and go without a word to those who have no link to them.
      cancelSearch ??= clock.after(SEARCH_AGAIN_MS, () => {
        cancelSearch = undefined;
        misses = 0;
        reconcile('search_again');
      });
      link.letGo(NORMAL_CLOSURE, 'surplus');
      return;
    }
    misses = 0;
    known.joined = true;
    known.stable = clock.after(STABLE_MS, () => backoff.reset());
    log('link_joined', { server_id: serverId, replicas });
    onJoined(link);
    reconcile('joined');
  }

  function leave(link: Link, reconnectAfterMs: number): void {
    const known = links.get(link);
    if (!known || known.leaving) return;
    known.leaving = true;
    onGone(link);
    // At least a second wide, or every agent of a gateway that names no wait would come at once.
    const spreadMs = random() * Math.max(1_000, reconnectAfterMs / 2);
    waitUntilMs = Math.max(waitUntilMs, clock.now() + reconnectAfterMs + spreadMs);
    misses = 0;
    reconcile('goaway');
  }

  function ended(link: Link, why: LinkEnd): void {
    const known = links.get(link);
    links.delete(link);
    known?.stable();
    if (known?.joined && !known.leaving) onGone(link);
    if (why.code === 'let_go') {
      reconcile('surplus');
      return;
    }
    log('link_ended', { server_id: link.serverId, code: why.code, detail: why.detail, retry: backoff.tries });
    misses = 0;
    if (!known?.leaving) waitUntilMs = Math.max(waitUntilMs, clock.now() + backoff.next());
    reconcile('link_ended');
  }

  return {
    start: () => reconcile('boot'),
    links: () => [...links.keys()],
    hold() {
      held = true;
      cancelWait?.();
      cancelSearch?.();
    },
    close() {
      this.hold();
      for (const link of [...links.keys()]) link.letGo(closeCode('draining'), 'draining');
    },
  };
}
