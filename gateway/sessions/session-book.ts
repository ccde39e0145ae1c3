import { Failure } from '../../shared/errors.ts';
import { type IdParts, MAX_ID_CHARS } from '../../shared/ids.ts';
import { MAX_SESSIONS } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import type { SessionResponse } from '../../shared/session-api.ts';
import { MAX_SESSIONS_LISTED, type SessionAsk, type SessionState } from '../../shared/session-messages.ts';
import { type Caller, mayUseCluster, mayUseTemplate } from '../auth/caller.ts';
import { askInstance } from '../clusters/ask-instance.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { SessionPageCollector } from './session-page.ts';
import { createSessionTimes } from './session-times.ts';

/** An agent under load may take its time; a link that is dead is found out by its own clock. */
const ANSWER_TIMEOUT_MS = 10_000;
/** For all that one agent has to list, page after page. */
export const LIST_TIMEOUT_MS = 30_000;

export type SessionBookDeps = Pick<GatewayDeps, 'ids' | 'now' | 'elapsed'> & { directory: ClusterDirectory };

/** Where a session is, as its id says. */
export type SessionPlace = Required<Pick<IdParts, 'cluster' | 'instance' | 'template'>> & { id: string };

/** What agents know of sessions, asked for one caller at a time. */
export type SessionBook = {
  /** Throws 404 for an id that is not the caller's, whatever is wrong with it. `pathCluster`: the only one asked for. */
  find(caller: Caller, id: string, pathCluster: string | null): Promise<SessionPlace>;
  /** Asks the agent about a session. Throws 404 where there is none, 503 where its agent is not here. */
  ask(
    caller: Caller,
    place: SessionPlace,
    action: 'get' | 'extend',
    ttlMs?: number,
  ): Promise<SessionResponse>;
  /** Its terminals, and the executions that they are. Throws as `ask`. */
  terminals(caller: Caller, place: SessionPlace): Promise<NonNullable<SessionState['terminals']>>;
  /** Ends it. Throws as `ask`. */
  end(caller: Caller, place: SessionPlace): Promise<void>;
  /** Hands `page` all sessions of the caller at agents that are connected here, as they are told of. */
  list(caller: Caller, pathCluster: string | null, page: Pick<SessionPageCollector, 'add'>): Promise<void>;
};

export function createSessionBook({ ids, now, elapsed, directory }: SessionBookDeps): SessionBook {
  const timesOf = createSessionTimes(now);

  function describe({ tenant }: Caller, instance: string, state: SessionState): SessionResponse {
    return {
      session_id: state.session_id,
      ...timesOf(`${tenant} ${instance}`, state),
      idle_seconds: state.idle_ms === null ? null : state.idle_ms / 1_000,
      cluster: state.cluster,
      template: state.template,
      running: state.running,
      ...(state.terminals && { terminals: state.terminals.map(({ name }) => name) }),
    };
  }

  async function askAt(
    { tenant, principal }: Caller,
    place: Pick<SessionPlace, 'instance' | 'cluster'>,
    question: Omit<SessionAsk, 'ref' | 'principal'>,
    withinMs = ANSWER_TIMEOUT_MS,
  ): Promise<FromAgent['SESSION'] & { asks: number }> {
    const untilMs = elapsed() + withinMs;
    let asks = 0;
    const at = { ...place, tenant, what: 'session' } as const;
    const answer = await askInstance(directory, at, async ({ questions }) => {
      const leftMs = Math.min(untilMs - elapsed(), ANSWER_TIMEOUT_MS);
      // Links may go one after the other.
      if (leftMs <= 0) throw unsaid();
      asks += 1;
      return questions.sessions({ ...question, principal }, leftMs);
    });
    if (!answer) throw unsaid();
    return { ...answer, asks };
  }

  async function listOf(
    caller: Caller,
    place: Pick<SessionPlace, 'instance' | 'cluster'>,
    add: (sessions: SessionResponse[]) => void,
  ): Promise<void> {
    let skip = 0;
    const untilMs = elapsed() + LIST_TIMEOUT_MS;
    for (;;) {
      const question = { action: 'list', session_id: null, ttl_ms: null, skip } as const;
      const { sessions, total } = await askAt(caller, place, question, untilMs - elapsed());
      skip += sessions.length;
      add(sessions.map((state) => describe(caller, place.instance, state)));
      // However many it claims: no instance has more.
      if (sessions.length < MAX_SESSIONS_LISTED || skip >= Math.min(total, MAX_SESSIONS)) return;
    }
  }

  return {
    async find(caller, id, pathCluster) {
      const parts = await ids.open('s', id);
      const own = parts?.tenant === caller.tenant && parts.principalDigest === caller.principalDigest;
      if (!parts?.template || !own || !mayUse(caller, parts.cluster, parts.template)) throw noSession(id);
      if (pathCluster !== null && pathCluster !== parts.cluster) throw noSession(id);
      return { id, cluster: parts.cluster, instance: parts.instance, template: parts.template };
    },
    async ask(caller, place, action, ttlMs) {
      const { id, instance, cluster, template } = place;
      const question = { action, session_id: id, ttl_ms: ttlMs ?? null, skip: 0 };
      const { sessions } = await askAt(caller, place, question);
      const [state] = sessions;
      if (!state) throw noSession(id);
      return describe(caller, instance, { ...state, session_id: id, cluster, template });
    },
    async terminals(caller, place) {
      const { id } = place;
      const question = { action: 'get', session_id: id, ttl_ms: null, skip: 0 } as const;
      const { sessions } = await askAt(caller, place, question);
      const [state] = sessions;
      if (!state) throw noSession(id);
      return state.terminals ?? [];
    },
    async end(caller, place) {
      const { id } = place;
      const question = { action: 'end', session_id: id, ttl_ms: null, skip: 0 } as const;
      const { total, asks } = await askAt(caller, place, question);
      // Asked again, because a link went with the answer: that it is not there any more is what was asked for.
      if (total === 0 && asks === 1) throw noSession(id);
    },
    async list(caller, pathCluster, page) {
      const servedBy = new Map<string, Set<string>>();
      for (const { name, instances } of directory.clusters(caller.tenant))
        if (mayUseCluster(caller, name) && (pathCluster ?? name) === name)
          for (const each of instances)
            servedBy.set(each.name, (servedBy.get(each.name) ?? new Set()).add(name));
      const asked = [...servedBy].map(([instance, served]) => {
        const [cluster = ''] = served;
        // Whatever an agent tells of clusters that are not its own.
        return listOf(caller, { instance, cluster }, (sessions) =>
          page.add(
            sessions.filter((each) => served.has(each.cluster) && mayUseTemplate(caller, each.template)),
          ),
        );
      });
      // An agent that goes, or does not answer, hides what it has not told of, and nobody else's.
      await Promise.allSettled(asked);
    },
  };
}

function mayUse(caller: Caller, cluster: string, template: string): boolean {
  return mayUseCluster(caller, cluster) && mayUseTemplate(caller, template);
}

function unsaid(): Failure {
  return new Failure('agent_lost', 'The agent did not say in time.', { started: 'no' });
}

export function noSession(id: string): Failure {
  return new Failure('not_found', `Session '${id.slice(0, MAX_ID_CHARS)}' not found`);
}
