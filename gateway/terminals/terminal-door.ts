import { Failure } from '../../shared/errors.ts';
import type { IdParts } from '../../shared/ids.ts';
import { MAX_ATTEMPTS } from '../../shared/limits.ts';
import { type Caller, requireScope } from '../auth/caller.ts';
import type { RateLimiter } from '../auth/rate-limiter.ts';
import { keyEnded, watchKey } from '../auth/watch-key.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import type { ExecutionFollower, FollowOrder } from '../execution/execution-follower.ts';
import { InputStream } from '../execution/input-stream.ts';
import { openOwn } from '../execution/own-execution.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { requestIdOf } from '../http/request-ids.ts';
import { createSessionBook, type SessionPlace } from '../sessions/session-book.ts';
import { TerminalConnection } from './terminal-connection.ts';
import { readTerminalAsk, type TerminalAsk, withSubprotocolKey } from './terminal-request.ts';
import type { OpenedTerminal } from './terminal-socket.ts';
import { startTerminal } from './terminal-start.ts';

/** Whoever attaches takes the place of whoever looked before. */
const READER = 'terminal';

export type TerminalDoorDeps = Pick<
  GatewayDeps,
  'config' | 'now' | 'elapsed' | 'timers' | 'random' | 'log' | 'authenticator' | 'ids'
> & {
  rateLimiter: RateLimiter;
  directory: ClusterDirectory;
  requireOpen(): void;
  follow(order: FollowOrder): ExecutionFollower;
};

/** Opens terminals of sessions for WebSockets that an adapter has not upgraded yet. */
export type TerminalDoor = {
  /** Throws the Failure that the upgrade is to be refused with. */
  open(request: Request): Promise<OpenedTerminal>;
};

type Found = { executionId: string; created: boolean };

export function createTerminalDoor(deps: TerminalDoorDeps): TerminalDoor {
  const { config, elapsed, timers, random, log, authenticator, rateLimiter, ids, directory } = deps;
  const book = createSessionBook(deps);

  async function admit(request: Request): Promise<Caller> {
    const origin = request.headers.get('origin');
    if (origin !== null && !config.terminalOrigins.includes(origin))
      throw new Failure('forbidden', 'Pages of this origin may open no terminals here.');
    const caller = await authenticator.authenticate(withSubprotocolKey(request));
    requireScope(caller, 'sessions');
    rateLimiter.take(caller);
    deps.requireOpen();
    return caller;
  }

  /** The terminal of that name; it is opened where there is none. */
  async function find(
    caller: Caller,
    place: SessionPlace,
    ask: TerminalAsk,
    requestId: string,
  ): Promise<Found> {
    const { tenant, principalDigest } = caller;
    for (let tries = 0; tries < MAX_ATTEMPTS; tries += 1) {
      const terminals = await book.terminals(caller, place);
      const known = terminals.find(({ name }) => name === ask.name);
      if (known) return { executionId: known.execution_id, created: false };
      if (!ask.create) throw noTerminal(ask.name);
      const link = directory.linkTo({ ...place, tenant });
      if (!link) continue;
      const { cluster, instance, template } = place;
      const parts = { kind: 'w', tenant, principalDigest, cluster, instance, template } as const;
      const executionId = await ids.seal(parts);
      if (!link.joined) continue;
      if (await startTerminal(link, { caller, place, ask, executionId, requestId }, timers))
        return { executionId, created: true };
    }
    throw new Failure('agent_lost', 'The agent was lost while it opened the terminal; try again.');
  }

  /** Whoever had a terminal before has it until its end is forgotten, also when its session is over. */
  async function resume(caller: Caller, { session, pathCluster }: TerminalAsk, executionId: string) {
    const place = await book.find(caller, session, pathCluster);
    await requireHadHere(ids, executionId, caller, place);
    return { executionId, created: false };
  }

  async function feed({ executionId }: Found, parts: IdParts, ask: TerminalAsk) {
    try {
      const whereabouts = { ...parts, executionId };
      const input = await InputStream.open({ directory, timers }, { ...whereabouts, writer: ask.writer });
      if (ask.isSized) input.resize({ rows: ask.rows, columns: ask.columns });
      return input;
    } catch (error) {
      // Its program is over: there is output to be had, and its end.
      if (error instanceof Failure && ['not_found', 'conflict'].includes(error.code)) return undefined;
      throw error;
    }
  }

  return {
    async open(request) {
      const requestId = requestIdOf(request.headers, random);
      const caller = await admit(request);
      const ask = readTerminalAsk(new URL(request.url));
      const { name, offset } = ask;
      const found =
        ask.resume !== null
          ? await resume(caller, ask, ask.resume)
          : await find(caller, await book.find(caller, ask.session, ask.pathCluster), ask, requestId);
      const { executionId, created } = found;
      const parts = await openOwn(ids, executionId, caller);
      const from = { stdout: offset, stderr: 0 };
      const follower = deps.follow({ executionId, parts, caller, from, reader: READER });
      try {
        await follower.opened.catch((error: unknown) => {
          throw refusalOf(error);
        });
        const input = await feed(found, parts, ask);
        const beganMs = elapsed();
        return {
          take: (socket) =>
            new TerminalConnection({
              socket,
              timers,
              follower,
              input,
              name,
              created,
              offset,
              watch: (denied) => watchKey(deps, caller, () => denied(keyEnded())),
              onClosed: (why, bytes) =>
                log({
                  level: 'info',
                  event: 'terminal',
                  request_id: requestId,
                  execution_id: executionId,
                  tenant: caller.tenant,
                  sub: caller.sub,
                  why,
                  created,
                  input_bytes: bytes.input,
                  output_bytes: bytes.output,
                  duration_ms: Math.round(elapsed() - beganMs),
                }),
            }),
          drop() {
            follower.abandon();
            input?.leave();
          },
        };
      } catch (error) {
        follower.abandon();
        throw error;
      }
    },
  };
}

export function noTerminal(name: string): Failure {
  return new Failure('not_found', `There is no terminal '${name}' in this session.`);
}

/** Throws 404 for an id that is none of a terminal which the session may have had. */
export async function requireHadHere(
  ids: GatewayDeps['ids'],
  executionId: string,
  caller: Caller,
  place: SessionPlace,
): Promise<void> {
  const { kind, instance } = await openOwn(ids, executionId, caller);
  if (kind !== 'w' || instance !== place.instance)
    throw new Failure('not_found', 'This session has had no such terminal.');
}

function refusalOf(error: unknown): unknown {
  if (!(error instanceof Failure) || error.code !== 'invalid_request') return error;
  const message = 'offset is beyond what this terminal has shown.';
  return new Failure('invalid_request', message, { errors: [{ path: 'offset', message }] });
}
