import { Failure } from '../../shared/errors.ts';
import { MAX_SESSIONS, MAX_TERMINALS_PER_PRINCIPAL } from '../../shared/limits.ts';
import type { StartBody } from '../../shared/messages.ts';
import {
  MAX_SESSIONS_LISTED,
  type SessionAnswer,
  type SessionAsk,
  type SessionWork,
} from '../../shared/session-messages.ts';
import type { Clock } from '../clock.ts';
import type { Loan } from '../pool/lending.ts';
import type { Pool } from '../pool/pool.ts';
import { withStart } from '../pool/steady-runner.ts';
import { Session } from './session.ts';
import type { SessionReport } from './session-report.ts';

export type SessionsDeps = {
  clock: Clock;
  /** A session ended: the capacity there is another. */
  onChange: (cluster: string, template: string) => void;
  /** One began, or ended. */
  onReport: (report: SessionReport) => void;
};

/** The sessions of this instance. */
export type Sessions = {
  /** Throws where the holder has as many as it may, counting those that are being opened. */
  requireRoom(start: StartBody, work: Extract<SessionWork, { do: 'open' }>): void;
  /** A START was admitted: where it opens a session that counts from here on, also while it waits for a sandbox. */
  enter(start: StartBody): void;
  /** It is over: what it opened is kept, or is none. */
  leave(start: StartBody): void;
  /** A sandbox from the pool for a session that opens in it: kept where that works, else discarded. */
  keep(start: StartBody, work: Extract<SessionWork, { do: 'open' }>, pool: Pool, loan: Loan): Loan;
  /** Throws where the principal has as many terminals as it may. */
  requireTerminal(principal: string): void;
  /** Throws `no_session`: another principal's is none. */
  find(start: StartBody): Session;
  /** Answers SESSION. */
  answer(ask: SessionAsk): Promise<SessionAnswer>;
  endAll(): void;
  readonly size: number;
  /** How many live in one template's sandboxes. */
  countOf(pool: Pool): number;
};

export function createSessions({ clock, onChange, onReport }: SessionsDeps): Sessions {
  const sessions = new Map<string, Session>();
  /** Who opens each that is no session yet. */
  const opening = new Map<string, string>();

  function heldBy(holder: string): number {
    let count = 0;
    for (const opener of opening.values()) if (opener === holder) count += 1;
    for (const session of sessions.values()) if (session.holder === holder) count += 1;
    return count;
  }

  function adopt(start: StartBody, work: Extract<SessionWork, { do: 'open' }>, pool: Pool, loan: Loan) {
    const session: Session = new Session({
      clock,
      start,
      work,
      pool,
      loan,
      onReport,
      onEnded() {
        sessions.delete(session.id);
        queueMicrotask(() => onChange(session.cluster, pool.template.name));
      },
    });
    sessions.set(session.id, session);
  }

  function ownedBy(principal: string, id: string | null): Session | undefined {
    const session = id === null ? undefined : sessions.get(id);
    return session?.principal === principal && !session.over ? session : undefined;
  }

  return {
    requireRoom({ holder }, { ceiling, id }) {
      if (sessions.has(id) || opening.has(id))
        throw new Failure('duplicate', 'This agent knows the session already.');
      if (ceiling !== null && heldBy(holder) >= ceiling)
        throw new Failure('rate_limited', `At most ${ceiling} sessions of this key live at once.`, {
          retryAfterMs: 5_000,
        });
      if (sessions.size + opening.size >= MAX_SESSIONS)
        throw new Failure('at_capacity', 'This agent keeps as many sessions as it can.', {
          retryAfterMs: 5_000,
        });
    },
    enter({ holder, session }) {
      if (session?.do === 'open') opening.set(session.id, holder);
    },
    leave({ session }) {
      if (session?.do === 'open') opening.delete(session.id);
    },
    requireTerminal(principal) {
      let count = 0;
      for (const session of sessions.values())
        if (session.principal === principal) count += session.terminals.length;
      if (count >= MAX_TERMINALS_PER_PRINCIPAL)
        throw new Failure(
          'rate_limited',
          `At most ${MAX_TERMINALS_PER_PRINCIPAL} terminals are open at once.`,
          {
            retryAfterMs: 5_000,
          },
        );
    },
    keep(start, work, pool, loan) {
      let works = false;
      return {
        ...loan,
        runner: withStart(loan.runner, (streamId, body, handlers) =>
          loan.runner.start(streamId, body, {
            ...handlers,
            exit(exit) {
              works = exit.result?.outcome === 'exited';
              handlers.exit(exit);
            },
          }),
        ),
        release(verdict) {
          if (verdict === 'unused') return loan.release('unused');
          if (verdict === 'discard' || !works) return loan.release('discard');
          adopt(start, work, pool, loan);
          return Promise.resolve('kept');
        },
      };
    },
    find(start) {
      const session = ownedBy(start.principal, start.session?.id ?? null);
      if (!session) throw new Failure('no_session', 'This agent has no such session.');
      return session;
    },
    async answer({ ref, principal, action, session_id, ttl_ms, skip }) {
      if (action === 'list') {
        const own = [...sessions.values()].filter((session) => session.principal === principal);
        const listed = own.slice(skip, skip + MAX_SESSIONS_LISTED).map((session) => session.state());
        return { ref, sessions: listed, total: own.length };
      }
      const session = ownedBy(principal, session_id);
      if (!session) return { ref, sessions: [], total: 0 };
      if (action === 'extend' && ttl_ms !== null) session.extend(ttl_ms);
      const state = { ...session.state(), terminals: session.terminals };
      if (action === 'end') await session.end('deleted');
      return { ref, sessions: [state], total: 1 };
    },
    endAll() {
      for (const session of [...sessions.values()]) void session.end('draining');
    },
    get size() {
      return sessions.size;
    },
    countOf(pool) {
      let count = 0;
      for (const session of sessions.values()) if (session.pool === pool) count += 1;
      return count;
    },
  };
}
