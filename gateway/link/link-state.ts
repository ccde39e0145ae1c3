import type { Received } from '../../shared/control.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import { PROTOCOL_VERSION } from '../../shared/frame.ts';
import type { TypeName } from '../../shared/frame-type.ts';
import type { FROM_AGENT, FromAgent } from '../../shared/messages.ts';
import type { AuthenticatedAgent } from '../auth/caller.ts';

/** Where one link is in its life: shared/protocol.md sections 5 and 10. */
export type LinkState =
  | { at: 'greeting'; nonce: string }
  | { at: 'verifying'; nonce: string; hello: FromAgent['HELLO'] }
  | {
      at: 'joined';
      agent: AuthenticatedAgent;
      instance: string;
      /** Nonce of the AUTH_REFRESH that has not been answered. */
      refresh: string | null;
      /** The answer to it that is being checked. */
      proving: boolean;
      /** The gateway said GOAWAY or the agent DRAIN: no new work here. */
      draining: boolean;
    }
  | { at: 'closed' };

export type AgentMessage = Received<typeof FROM_AGENT>;

export type LinkEvent =
  | { type: 'received'; message: AgentMessage; stream: number }
  | { type: 'verified'; agent: AuthenticatedAgent }
  | { type: 'refused'; code: ErrorCode }
  | { type: 'hello_due' }
  | { type: 'token_aging'; nonce: string }
  | { type: 'token_ended' }
  | { type: 'silent' }
  | { type: 'replaced' }
  | { type: 'go_away'; reason: string; deadlineMs: number; reconnectAfterMs: number }
  | { type: 'fault'; code: ErrorCode }
  | { type: 'socket_closed' };

export type Proof = { token: string; nonce: string; instance: string; timeMs: number; signature: string };

export type LinkEffect =
  | { do: 'send'; name: TypeName; body: object }
  /** Check token and proof, then come back with `verified` or `refused`. */
  | { do: 'verify'; proof: Proof; clusters: readonly string[] }
  /** Send WELCOME, take the link into the directory. */
  | { do: 'join'; agent: AuthenticatedAgent; hello: FromAgent['HELLO'] }
  /** A newer token holds from now on. */
  | { do: 'renew'; agent: AuthenticatedAgent }
  | { do: 'slots'; body: FromAgent['SLOTS'] }
  /** Its agent says that it goes. */
  | { do: 'drain' }
  | { do: 'deliver'; message: AgentMessage; stream: number }
  | { do: 'answer_status'; body: FromAgent['STATUS'] }
  | { do: 'answer_session'; body: FromAgent['SESSION'] }
  | { do: 'answer_claim'; body: FromAgent['CLAIM'] }
  | { do: 'answer_signal'; body: FromAgent['SIGNAL'] }
  | { do: 'heartbeat'; body: FromAgent['HEARTBEAT'] }
  | { do: 'close'; code: ErrorCode }
  /** The peer does not answer: no closing handshake. */
  | { do: 'terminate' }
  | { do: 'leave' };

export type LinkStep = { state: LinkState; effects: readonly LinkEffect[] };

/** Frames that belong to an execution's stream. */
const ON_STREAM: ReadonlySet<TypeName> = new Set([
  'ACCEPT',
  'NACK',
  'STARTED',
  'END',
  'EXIT',
  'REPLAY_GAP',
  'INPUT',
]);

export function firstLinkState(nonce: string): LinkState {
  return { at: 'greeting', nonce };
}

/** The gateway's side of a link, as data. Sockets and timers only carry the effects out. */
export function nextLink(state: LinkState, event: LinkEvent): LinkStep {
  if (state.at === 'closed') return { state, effects: [] };
  switch (event.type) {
    case 'received':
      return received(state, event.message, event.stream);
    case 'verified':
      return verified(state, event.agent);
    case 'refused':
    case 'fault':
      return close(event.code);
    case 'hello_due':
      return state.at === 'joined' ? stay(state) : close('handshake_timeout');
    case 'token_aging':
      if (state.at !== 'joined' || state.refresh !== null) return stay(state);
      return {
        state: { ...state, refresh: event.nonce },
        effects: [{ do: 'send', name: 'AUTH_REFRESH', body: { nonce: event.nonce } }],
      };
    case 'token_ended':
      return close('unauthorized');
    case 'silent':
      return { state: { at: 'closed' }, effects: [{ do: 'terminate' }, { do: 'leave' }] };
    case 'replaced':
      return close('replaced');
    case 'go_away':
      return goAway(state, event);
    case 'socket_closed':
      return { state: { at: 'closed' }, effects: [{ do: 'leave' }] };
  }
}

function received(
  state: Exclude<LinkState, { at: 'closed' }>,
  message: AgentMessage,
  stream: number,
): LinkStep {
  if (state.at === 'greeting') return greet(state, message, stream);
  // Only HELLO is due before WELCOME, and only once.
  if (state.at === 'verifying' || message.name === 'HELLO') return close('protocol_error');
  if (ON_STREAM.has(message.name) !== (stream !== 0)) return close('protocol_error');
  switch (message.name) {
    case 'HEARTBEAT':
      return { state, effects: [{ do: 'heartbeat', body: message.body }] };
    case 'SLOTS':
      return { state, effects: [{ do: 'slots', body: message.body }] };
    case 'STATUS':
      return { state, effects: [{ do: 'answer_status', body: message.body }] };
    case 'SESSION':
      return { state, effects: [{ do: 'answer_session', body: message.body }] };
    case 'CLAIM':
      return { state, effects: [{ do: 'answer_claim', body: message.body }] };
    case 'SIGNAL':
      return { state, effects: [{ do: 'answer_signal', body: message.body }] };
    case 'DRAIN':
      return { state: { ...state, draining: true }, effects: [{ do: 'drain' }] };
    case 'AUTH_REFRESH':
      return refreshed(state, message.body);
    default:
      return { state, effects: [{ do: 'deliver', message, stream }] };
  }
}

function greet(
  state: Extract<LinkState, { at: 'greeting' }>,
  message: AgentMessage,
  stream: number,
): LinkStep {
  if (message.name !== 'HELLO' || stream !== 0) return close('protocol_error');
  const hello = message.body;
  if (hello.min_version > PROTOCOL_VERSION || hello.max_version < PROTOCOL_VERSION)
    return close('version_mismatch');
  const proof = {
    token: hello.token,
    nonce: state.nonce,
    instance: hello.instance,
    timeMs: hello.time,
    signature: hello.signature,
  };
  return {
    state: { at: 'verifying', nonce: state.nonce, hello },
    effects: [{ do: 'verify', proof, clusters: hello.clusters }],
  };
}

function verified(state: Exclude<LinkState, { at: 'closed' }>, agent: AuthenticatedAgent): LinkStep {
  if (state.at === 'verifying') {
    const { hello } = state;
    return {
      state: {
        at: 'joined',
        agent,
        instance: hello.instance,
        refresh: null,
        proving: false,
        draining: false,
      },
      effects: [{ do: 'join', agent, hello }],
    };
  }
  if (state.at !== 'joined' || !state.proving) return stay(state);
  // A token may be renewed, never exchanged for somebody else's.
  const { tenant, sub, thumbprint } = state.agent;
  if (agent.tenant !== tenant || agent.sub !== sub || agent.thumbprint !== thumbprint)
    return close('forbidden');
  return {
    state: { ...state, agent, refresh: null, proving: false },
    effects: [{ do: 'renew', agent }],
  };
}

function refreshed(state: Extract<LinkState, { at: 'joined' }>, body: FromAgent['AUTH_REFRESH']): LinkStep {
  if (state.refresh === null || state.proving) return close('protocol_error');
  const proof = {
    token: body.token,
    nonce: state.refresh,
    instance: state.instance,
    timeMs: body.time,
    signature: body.signature,
  };
  return { state: { ...state, proving: true }, effects: [{ do: 'verify', proof, clusters: [] }] };
}

function goAway(
  state: Exclude<LinkState, { at: 'closed' }>,
  { reason, deadlineMs, reconnectAfterMs }: Extract<LinkEvent, { type: 'go_away' }>,
): LinkStep {
  if (state.at !== 'joined') return close('draining');
  const body = { reason, deadline_ms: deadlineMs, reconnect_after_ms: reconnectAfterMs };
  return {
    state: { ...state, draining: true },
    effects: [{ do: 'send', name: 'GOAWAY', body }],
  };
}

function stay(state: LinkState): LinkStep {
  return { state, effects: [] };
}

function close(code: ErrorCode): LinkStep {
  return {
    state: { at: 'closed' },
    effects: [{ do: 'close', code }, { do: 'leave' }],
  };
}
