import { closeCode, type ErrorCode } from '../../shared/errors.ts';
import { PROTOCOL_VERSION } from '../../shared/frame.ts';
import type { FromGateway } from '../../shared/messages.ts';
import { clampTimings, JOIN_TIMEOUT_MS, MAX_GOAWAY_WAIT_MS, MAX_LEAVE_MS, type Timings } from './timings.ts';

/** WebSocket close code of a link that is let go because its replica has enough. */
const NORMAL_CLOSURE = 1000;

/** Where one link stands. `leaving`: after GOAWAY; what runs on it ends there. */
export type LinkState =
  | { readonly phase: 'dialing' }
  | { readonly phase: 'waiting_for_challenge' }
  | { readonly phase: 'waiting_for_welcome'; readonly serverId: string }
  | ({ readonly phase: 'joined' | 'leaving'; readonly serverId: string } & Timings)
  | { readonly phase: 'ended'; readonly why: LinkEnd };

/** Why a link ended: a code of shared/errors.ts, or what happened to the socket. */
export type LinkEnd = {
  readonly code: ErrorCode | 'lost' | 'silent' | 'unreachable' | 'surplus' | 'let_go';
  readonly detail: string;
};

export type LinkTimer = 'join' | 'heartbeat' | 'dead' | 'leave';

export type LinkEvent =
  | { readonly type: 'dial' }
  | { readonly type: 'opened' }
  /** `wanted`: the replica that it comes from has not all its links yet. */
  | { readonly type: 'challenge'; readonly body: FromGateway['CHALLENGE']; readonly wanted: boolean }
  | { readonly type: 'welcome'; readonly body: FromGateway['WELCOME'] }
  | { readonly type: 'refresh'; readonly body: FromGateway['AUTH_REFRESH'] }
  | { readonly type: 'heartbeat'; readonly body: FromGateway['HEARTBEAT'] }
  | { readonly type: 'goaway'; readonly body: FromGateway['GOAWAY'] }
  /** Any other message: it has its time only on a joined link. */
  | { readonly type: 'work' }
  | { readonly type: 'timer'; readonly timer: LinkTimer }
  | { readonly type: 'fault'; readonly code: ErrorCode; readonly detail: string }
  /** This side wants the link no longer: a WebSocket close code and a reason. */
  | { readonly type: 'let_go'; readonly code: number; readonly reason: string }
  | { readonly type: 'socket_closed'; readonly end: LinkEnd };

export type LinkEffect =
  | { readonly do: 'arm'; readonly timer: LinkTimer; readonly afterMs: number }
  | { readonly do: 'disarm'; readonly timer: LinkTimer }
  /** Sign, then send HELLO or AUTH_REFRESH. */
  | { readonly do: 'prove'; readonly as: 'HELLO' | 'AUTH_REFRESH'; readonly nonce: string }
  | { readonly do: 'beat'; readonly reply: boolean; readonly echo: number | null }
  | { readonly do: 'joined'; readonly serverId: string; readonly replicas: number }
  | { readonly do: 'leave'; readonly reconnectAfterMs: number; readonly reason: string }
  | { readonly do: 'close'; readonly code: number; readonly reason: string }
  | { readonly do: 'terminate' }
  | { readonly do: 'ended'; readonly why: LinkEnd };

export type LinkStep = { readonly state: LinkState; readonly effects: readonly LinkEffect[] };

const stay = (state: LinkState, ...effects: LinkEffect[]): LinkStep => ({ state, effects });

/** The life of one link, as data: sockets and timers only carry the effects out. */
export function next(state: LinkState, event: LinkEvent): LinkStep {
  if (state.phase === 'ended') return stay(state);
  switch (event.type) {
    case 'dial':
      return stay(state, { do: 'arm', timer: 'join', afterMs: JOIN_TIMEOUT_MS });
    case 'opened':
      return state.phase === 'dialing' ? stay({ phase: 'waiting_for_challenge' }) : stay(state);
    case 'socket_closed':
      return over(event.end);
    case 'let_go':
      return over(
        { code: 'let_go', detail: event.reason },
        { do: 'close', code: event.code, reason: event.reason },
      );
    case 'fault':
      return refuse(event.code, event.detail);
    case 'timer':
      return onTimer(state, event.timer);
    case 'challenge':
      return onChallenge(state, event);
    case 'welcome':
      return onWelcome(state, event.body);
    default:
      return state.phase === 'joined' || state.phase === 'leaving'
        ? onJoined(state, event)
        : refuse('protocol_error', `${event.type} before WELCOME`);
  }
}

function onTimer(state: LinkState, timer: LinkTimer): LinkStep {
  const joined = state.phase === 'joined' || state.phase === 'leaving';
  if (timer === 'join')
    return joined ? stay(state) : refuse('handshake_timeout', 'The gateway did not answer in time.');
  if (!joined) return stay(state);
  if (timer === 'heartbeat')
    return stay(
      state,
      { do: 'beat', reply: true, echo: null },
      { do: 'arm', timer: 'heartbeat', afterMs: state.heartbeatMs },
    );
  if (timer === 'leave') return refuse('draining', 'The time that GOAWAY gave is over.');
  // A close handshake needs a peer that lives.
  return over({ code: 'silent', detail: `Nothing came for ${state.deadMs} ms.` }, { do: 'terminate' });
}

function onChallenge(
  state: LinkState,
  { body, wanted }: Extract<LinkEvent, { type: 'challenge' }>,
): LinkStep {
  if (state.phase !== 'waiting_for_challenge') return refuse('protocol_error', 'CHALLENGE out of its time');
  const { min_version, max_version, nonce, server_id } = body;
  if (min_version > PROTOCOL_VERSION || max_version < PROTOCOL_VERSION)
    return refuse(
      'version_mismatch',
      `The gateway speaks versions ${min_version} to ${max_version}, this agent ${PROTOCOL_VERSION}.`,
    );
  if (!wanted)
    return over(
      { code: 'surplus', detail: 'This replica has its links already.' },
      { do: 'close', code: NORMAL_CLOSURE, reason: 'surplus' },
    );
  return stay({ phase: 'waiting_for_welcome', serverId: server_id }, { do: 'prove', as: 'HELLO', nonce });
}

function onWelcome(state: LinkState, body: FromGateway['WELCOME']): LinkStep {
  if (state.phase !== 'waiting_for_welcome') return refuse('protocol_error', 'WELCOME out of its time');
  if (body.version !== PROTOCOL_VERSION)
    return refuse('version_mismatch', `The gateway chose version ${body.version}.`);
  if (body.server_id !== state.serverId)
    return refuse('protocol_error', 'WELCOME comes from another server than CHALLENGE');
  const timings = clampTimings(body.heartbeat_ms, body.dead_ms);
  return stay(
    { phase: 'joined', serverId: body.server_id, ...timings },
    { do: 'disarm', timer: 'join' },
    { do: 'joined', serverId: body.server_id, replicas: body.replicas },
    { do: 'arm', timer: 'heartbeat', afterMs: timings.heartbeatMs },
    { do: 'arm', timer: 'dead', afterMs: timings.deadMs },
  );
}

type JoinedState = Extract<LinkState, { phase: 'joined' | 'leaving' }>;
type JoinedEvent = Extract<LinkEvent, { type: 'refresh' | 'heartbeat' | 'goaway' | 'work' }>;

function onJoined(state: JoinedState, event: JoinedEvent): LinkStep {
  switch (event.type) {
    case 'refresh':
      return stay(state, { do: 'prove', as: 'AUTH_REFRESH', nonce: event.body.nonce });
    case 'heartbeat':
      return event.body.reply ? stay(state, { do: 'beat', reply: false, echo: event.body.id }) : stay(state);
    case 'goaway':
      return state.phase === 'leaving' ? stay(state) : onGoaway(state, event.body);
    case 'work':
      return stay(state);
  }
}

function onGoaway(state: JoinedState, body: FromGateway['GOAWAY']): LinkStep {
  return stay(
    { ...state, phase: 'leaving' },
    {
      do: 'leave',
      reconnectAfterMs: Math.min(body.reconnect_after_ms, MAX_GOAWAY_WAIT_MS),
      reason: body.reason,
    },
    { do: 'arm', timer: 'leave', afterMs: Math.min(body.deadline_ms, MAX_LEAVE_MS) },
  );
}

/** Ends the link with the close code that goes with `code`. */
function refuse(code: ErrorCode, detail: string): LinkStep {
  return over({ code, detail }, { do: 'close', code: closeCode(code), reason: code });
}

function over(why: LinkEnd, ...effects: LinkEffect[]): LinkStep {
  return { state: { phase: 'ended', why }, effects: [...effects, { do: 'ended', why }] };
}
