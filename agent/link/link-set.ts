import { closeCode } from '../../shared/errors.ts';
import { LINKS_PER_REPLICA, MAX_REPLICAS } from '../../shared/limits.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { createDialSchedule } from './dial-schedule.ts';
import type { Link, LinkDeps } from './link.ts';
import type { LinkEnd } from './link-state.ts';
import { isSurplus, wantsLink } from './plan-links.ts';
import { STABLE_MS } from './timings.ts';

/** Links that are on their way out at once: as many as there are at most, all sent away together. */
export const MAX_LEAVING = MAX_REPLICAS * LINKS_PER_REPLICA;

/** Why the set looked at itself: for the log, and so that every cause has a name. */
export type WakeReason = 'boot' | 'joined' | 'surplus' | 'goaway' | 'link_ended' | 'wait_over';

export type LinkSetDeps = {
  /** Dials one link. */
  connect: (handlers: Pick<LinkDeps, 'isWanted' | 'onJoined' | 'onLeave' | 'onEnded'>) => Link;
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
  /** Why a link was refused or lost, the newest; null while none was. */
  lastEnd(): LinkEnd | null;
  /** Dials no more; the links there are stay. */
  hold(): void;
  /** Lets every link go. */
  close(): void;
};

/**
 * Keeps LINKS_PER_REPLICA links to every gateway replica it finds. One loop decides, whatever woke it; one dial is under
 * way at a time; the schedule says when, so that agents that lost the same gateway do not return together.
 */
export function createLinkSet({ connect, clock, random, log, onJoined, onGone }: LinkSetDeps): LinkSet {
  const links = new Map<Link, { joined: boolean; leaving: boolean; stable: CancelTimer }>();
  const schedule = createDialSchedule({ now: clock.now, random });
  let replicas = 1;
  let cancelWait: CancelTimer | undefined;
  let held = false;
  let lastEnd: LinkEnd | null = null;

  function planned() {
    return [...links].map(([link, { joined, leaving }]) => ({
      serverId: joined ? link.serverId : null,
      leaving,
    }));
  }

  function reconcile(reason: WakeReason): void {
    if (held || !wantsLink({ links: planned(), replicas })) return;
    const waitMs = schedule.waitMs();
    if (waitMs > 0) {
      cancelWait?.();
      cancelWait = clock.after(waitMs, () => reconcile('wait_over'));
      return;
    }
    log('link_dial', { reason, links: links.size, replicas, failures: schedule.failures });
    const isWanted = (serverId: string) => !isSurplus(serverId, planned());
    const link = connect({ isWanted, onJoined: joined, onLeave: leave, onEnded: ended });
    // A link that failed in the dial itself has ended before it was known.
    if (link.phase !== 'ended') links.set(link, { joined: false, leaving: false, stable: () => {} });
  }

  function joined(link: Link, told: number): void {
    const known = links.get(link);
    const { serverId } = link;
    if (!known || serverId === null) return;
    replicas = told;
    known.joined = true;
    known.stable = clock.after(STABLE_MS, () => schedule.stable());
    schedule.joined();
    log('link_joined', { server_id: serverId, replicas });
    onJoined(link);
    reconcile('joined');
  }

  function leave(link: Link, reconnectAfterMs: number): void {
    const known = links.get(link);
    if (!known || known.leaving) return;
    known.leaving = true;
    onGone(link);
    letOldestGo();
    schedule.sentAway(reconnectAfterMs);
    reconcile('goaway');
  }

  /** A gateway that sends away whoever joins must not gather links. */
  function letOldestGo(): void {
    const going = [...links].filter(([, { leaving }]) => leaving);
    if (going.length > MAX_LEAVING) going[0]?.[0].letGo(closeCode('draining'), 'draining');
  }

  function ended(link: Link, why: LinkEnd): void {
    const known = links.get(link);
    links.delete(link);
    known?.stable();
    if (known?.joined && !known.leaving) onGone(link);
    if (why.code === 'surplus') {
      schedule.surplus(Math.min(replicas, MAX_REPLICAS));
      reconcile('surplus');
      return;
    }
    if (!known?.joined) schedule.failed();
    else if (!known.leaving && why.code !== 'let_go') schedule.lost();
    lastEnd = why;
    const { code, detail } = why;
    log('link_ended', { server_id: link.serverId, code, detail, failures: schedule.failures });
    reconcile('link_ended');
  }

  return {
    start: () => reconcile('boot'),
    links: () => [...links.keys()],
    lastEnd: () => lastEnd,
    hold() {
      held = true;
      cancelWait?.();
    },
    close() {
      this.hold();
      for (const link of [...links.keys()]) link.letGo(closeCode('draining'), 'draining');
    },
  };
}
