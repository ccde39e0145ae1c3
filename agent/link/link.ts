import type { WebSocket } from 'ws';
import { Failure } from '../../shared/errors.ts';
import { faultText } from '../../shared/fault-text.ts';
import { CHANNEL } from '../../shared/frame-type.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import { FROM_GATEWAY, type FromAgent } from '../../shared/messages.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import type { Executions } from '../executions/executions.ts';
import type { Log } from '../log.ts';
import { helloBody } from './hello.ts';
import { createAgentSocket } from './link-socket.ts';
import {
  type LinkEffect,
  type LinkEnd,
  type LinkEvent,
  type LinkState,
  type LinkTimer,
  next,
} from './link-state.ts';
import { createLinkStreams, type GatewayMessage } from './link-streams.ts';
import { ownEvent } from './own-event.ts';
import type { Peers } from './peers.ts';
import type { AgentPeer } from './stream-port.ts';

/** Proves that this agent holds the key its token is bound to. */
export type Prove = (nonce: string) => Promise<FromAgent['AUTH_REFRESH']>;

export type LinkDeps = {
  dial: () => WebSocket;
  prove: Prove;
  instance: string;
  software: string;
  clusters: readonly string[];
  executions: Executions;
  /** All links of this instance share them. */
  peers: Peers;
  clock: Clock;
  log: Log;
  /** Whether a link to this replica is wanted: asked as soon as the gateway has named itself, before anything is proved. */
  isWanted: (serverId: string) => boolean;
  /** Each is called at most once, in this order. `onLeave`: the gateway said GOAWAY. */
  onJoined: (link: Link, replicas: number) => void;
  onLeave: (link: Link, reconnectAfterMs: number) => void;
  onEnded: (link: Link, why: LinkEnd) => void;
  /** A START came: one grant of the template is spent. */
  onStart: (link: Link, cluster: string, template: string) => void;
};

export type Link = {
  readonly phase: LinkState['phase'];
  /** Null until CHALLENGE named it, and when the link has ended. */
  readonly serverId: string | null;
  readonly roundTripMs: number | null;
  /** Without effect on a link that has not joined. */
  send<Name extends 'SLOTS' | 'DRAIN'>(name: Name, body: FromAgent[Name]): void;
  /**
   * Resolves when the gateway has taken all that was said so far, and what it had said before that has come; also when
   * the link has ended.
   */
  heard(): Promise<void>;
  /** Everything queued has left the process. */
  readonly flushed: boolean;
  /** Ends the link in order. */
  letGo(code: number, reason: string): void;
};

/** Dials one link and lives on it until it ends. Knows nothing of other links. */
export function createLink(deps: LinkDeps): Link {
  const { executions, clock, log } = deps;
  const timers = new Map<LinkTimer, CancelTimer>();
  let state: LinkState = { phase: 'dialing' };
  let lastFrameMs = clock.now();
  let beats = 0;
  let proving = false;
  let asked: { id: number; atMs: number } | undefined;
  /** Who waits for the echo of a heartbeat. */
  const echoes = new Map<number, () => void>();
  let roundTripMs: number | null = null;

  const socket = createAgentSocket(deps.dial(), clock, {
    opened: () => apply({ type: 'opened' }),
    message(bytes) {
      if (state.phase === 'ended') return;
      lastFrameMs = clock.now();
      try {
        peer.receive(bytes);
        if (peer.outbox.isFlooded) broke('a flood of questions');
      } catch (cause) {
        // A fault of ours that a frame brought to light must end its link, not the process with all that runs.
        log('link_broke', { server_id: link.serverId, cause: faultText(cause) });
        apply({ type: 'fault', code: 'internal', detail: 'The agent failed.' });
      }
    },
    broke,
    closed: (end) => apply({ type: 'socket_closed', end }),
  });
  const peer: AgentPeer = new LinkPeer({
    socket,
    schemas: FROM_GATEWAY,
    channels: [CHANNEL.input],
    peerOpens: true,
    now: clock.now,
    handlers: {
      control: (message, stream) => onMessage(message as GatewayMessage, stream),
      data: (stream, _channel, _offset, bytes) => streams.data(stream, bytes),
      room: (stream) => streams.room(stream),
      gone: (stream) => streams.gone(stream),
      fault: ({ code, detail }) => apply({ type: 'fault', code, detail }),
    },
  });
  const streams = createLinkStreams({
    peer,
    executions,
    broke,
    onStart: (cluster, template) => deps.onStart(link, cluster, template),
  });
  const link: Link = {
    get phase() {
      return state.phase;
    },
    get serverId() {
      return 'serverId' in state ? state.serverId : null;
    },
    get roundTripMs() {
      return roundTripMs;
    },
    send(name, body) {
      if (isJoined()) peer.control(name, 0, body);
    },
    heard() {
      if (!isJoined()) return Promise.resolve();
      beat(true, null);
      return new Promise((resolve) => echoes.set(beats, resolve));
    },
    get flushed() {
      return !isJoined() || (peer.outbox.empty && socket.unsent === 0);
    },
    letGo: (code, reason) => apply({ type: 'let_go', code, reason }),
  };
  apply({ type: 'dial' });
  return link;

  function isJoined(): boolean {
    return state.phase === 'joined' || state.phase === 'leaving';
  }

  function broke(detail: string): void {
    apply({ type: 'fault', code: 'protocol_error', detail });
  }

  function onMessage(message: GatewayMessage, stream: number): void {
    const event = ownEvent(message, deps.isWanted);
    if (event && stream !== 0) broke(`${message.name} on a stream`);
    else apply(event ?? { type: 'work' });
    if (!isJoined()) return;
    if (message.name === 'WELCOME') deps.peers.told(message.body.peers ?? []);
    if (message.name === 'HEARTBEAT') echoed(message.body.echo);
    if (!event) streams.message(message, stream);
  }

  function echoed(id: number | null): void {
    if (id === null) return;
    if (asked?.id === id) roundTripMs = clock.now() - asked.atMs;
    echoes.get(id)?.();
    echoes.delete(id);
  }

  function apply(event: LinkEvent): void {
    const step = next(state, event);
    state = step.state;
    for (const effect of step.effects) carryOut(effect);
  }

  function carryOut(effect: LinkEffect): void {
    switch (effect.do) {
      case 'arm':
        arm(effect.timer, effect.afterMs);
        break;
      case 'disarm':
        timers.get(effect.timer)?.();
        break;
      case 'prove':
        void prove(effect.as, effect.nonce);
        break;
      case 'beat':
        beat(effect.reply, effect.echo);
        break;
      case 'joined':
        peer.joined = true;
        deps.onJoined(link, effect.replicas);
        break;
      case 'leave':
        log('link_goaway', { server_id: link.serverId, reason: effect.reason });
        deps.onLeave(link, effect.reconnectAfterMs);
        break;
      case 'close':
        socket.close(effect.code, effect.reason);
        break;
      case 'terminate':
        socket.terminate();
        break;
      case 'ended':
        onEnded(effect.why);
    }
  }

  function onEnded(why: LinkEnd): void {
    for (const cancel of timers.values()) cancel();
    timers.clear();
    for (const resolve of echoes.values()) resolve();
    echoes.clear();
    socket.terminate();
    streams.lose();
    deps.onEnded(link, why);
  }

  function arm(timer: LinkTimer, afterMs: number): void {
    timers.get(timer)?.();
    if (state.phase === 'ended') return;
    const due = () => {
      // One number per frame, instead of a timer that each frame would have to set anew.
      const leftMs = timer === 'dead' && 'deadMs' in state ? state.deadMs - (clock.now() - lastFrameMs) : 0;
      if (leftMs > 0) arm('dead', leftMs);
      else apply({ type: 'timer', timer });
    };
    timers.set(timer, clock.after(afterMs, due));
  }

  function beat(reply: boolean, echo: number | null): void {
    beats += 1;
    if (reply) asked = { id: beats, atMs: clock.now() };
    peer.control('HEARTBEAT', 0, { id: beats, reply, echo, running: executions.running() });
  }

  async function prove(as: 'HELLO' | 'AUTH_REFRESH', nonce: string): Promise<void> {
    if (proving) {
      broke('AUTH_REFRESH before the last one was answered');
      return;
    }
    proving = true;
    let proof: FromAgent['AUTH_REFRESH'];
    try {
      proof = await deps.prove(nonce);
      proving = false;
    } catch (cause) {
      const code = cause instanceof Failure && cause.code === 'forbidden' ? 'forbidden' : 'unauthorized';
      const detail = cause instanceof Failure ? cause.detail : "The agent's credential cannot be used.";
      log('credential_unusable', { code, cause });
      apply({ type: 'fault', code, detail });
      return;
    }
    if (state.phase === 'ended') return;
    if (as === 'AUTH_REFRESH') peer.control('AUTH_REFRESH', 0, proof);
    else peer.control('HELLO', 0, helloBody(deps, proof));
  }
}
