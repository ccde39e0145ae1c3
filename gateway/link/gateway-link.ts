import { closeCode, type ErrorCode } from '../../shared/errors.ts';
import { faultText } from '../../shared/fault-text.ts';
import { PROTOCOL_VERSION } from '../../shared/frame.ts';
import { CHANNEL } from '../../shared/frame-type.ts';
import { HELLO_TIMEOUT_MS } from '../../shared/limits.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import { FROM_AGENT, type FromAgent } from '../../shared/messages.ts';
import type { AuthenticatedAgent } from '../auth/caller.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { LinkIdentity } from './link-identity.ts';
import { LinkPulse } from './link-pulse.ts';
import { LinkQuestions } from './link-questions.ts';
import type { AcceptedLink, LinkSocketPort } from './link-socket.ts';
import { firstLinkState, type LinkEffect, type LinkEvent, type LinkState, nextLink } from './link-state.ts';
import { LinkStreams } from './link-streams.ts';

/** What a link tells the gateway that holds it. */
export type LinkOwner = {
  /** Takes the link in; a code refuses it. */
  join(link: GatewayLink, hello: FromAgent['HELLO']): ErrorCode | null;
  /** Other instances of its tenant that WELCOME tells it of. */
  peers(link: GatewayLink): string[];
  slots(link: GatewayLink, body: FromAgent['SLOTS']): ErrorCode | null;
  drain(link: GatewayLink): void;
  leave(link: GatewayLink): void;
};

export type LinkDeps = Pick<
  GatewayDeps,
  'config' | 'now' | 'elapsed' | 'timers' | 'random' | 'log' | 'authenticator'
>;

/** The gateway's end of one link: carries out what `nextLink` says, and lends streams to executions. */
export class GatewayLink implements AcceptedLink {
  readonly #deps: LinkDeps;
  readonly #socket: LinkSocketPort;
  readonly #owner: LinkOwner;
  readonly #peer: LinkPeer<typeof FROM_AGENT>;
  readonly streams: LinkStreams;
  readonly questions: LinkQuestions;
  readonly #identity: LinkIdentity;
  readonly #pulse: LinkPulse;
  #state: LinkState;
  readonly #helloTimer: unknown;
  /** Set once joined. */
  instance = '';

  constructor(socket: LinkSocketPort, owner: LinkOwner, deps: LinkDeps) {
    this.#deps = deps;
    this.#socket = socket;
    this.#owner = owner;
    this.#identity = new LinkIdentity({ ...deps, apply: (event) => this.#apply(event) });
    this.#pulse = new LinkPulse({
      ...deps,
      send: (body) => this.#peer.control('HEARTBEAT', 0, body),
      running: () => this.running,
      beforeBeat: () => this.#identity.check(),
      silent: () => this.#apply({ type: 'silent' }),
    });
    this.#peer = new LinkPeer({
      socket,
      schemas: FROM_AGENT,
      channels: [CHANNEL.stdout, CHANNEL.stderr, CHANNEL.files],
      peerOpens: false,
      now: deps.elapsed,
      handlers: {
        control: (message, stream) => this.#apply({ type: 'received', message, stream }),
        data: (stream, channel, _offset, bytes) => this.#judge(this.streams.data(stream, channel, bytes)),
        room: (stream) => this.streams.raised(stream),
        fault: ({ code, detail }) => {
          deps.log({ level: 'warn', event: 'link_fault', code, detail, instance: this.instance });
          this.#apply({ type: 'fault', code });
        },
      },
    });
    this.streams = new LinkStreams(this.#peer);
    this.questions = new LinkQuestions({ ...deps, peer: this.#peer, joined: () => this.joined });
    const nonce = this.#identity.nonce();
    this.#state = firstLinkState(nonce);
    this.#helloTimer = deps.timers.setTimeout(() => this.#apply({ type: 'hello_due' }), HELLO_TIMEOUT_MS);
    this.#peer.control('CHALLENGE', 0, {
      nonce,
      server_id: deps.config.serverId,
      min_version: PROTOCOL_VERSION,
      max_version: PROTOCOL_VERSION,
    });
  }

  /** Whose token opened it. Only of a link that has joined. */
  get agent(): AuthenticatedAgent {
    return this.#identity.agent;
  }

  get joined(): boolean {
    return this.#state.at === 'joined';
  }

  get lastHeardMs(): number {
    return this.#pulse.lastHeardMs;
  }

  get draining(): boolean {
    return this.#state.at === 'joined' && this.#state.draining;
  }

  /** Executions that run over this link. */
  get running(): number {
    return this.streams.size;
  }

  message(data: Uint8Array | string): void {
    this.#pulse.heard();
    try {
      if (typeof data === 'string') this.#apply({ type: 'fault', code: 'protocol_error' });
      else if (this.#state.at !== 'closed') this.#peer.receive(data);
      // Much is answered, acknowledged if nothing else: what waits for a peer that does not read would fill the memory.
      if (this.#peer.outbox.isFlooded) this.#judge('protocol_error');
    } catch (cause) {
      // A fault of ours that a frame brought to light must end its link, not the process with everybody's.
      const { instance } = this;
      this.#deps.log({ level: 'error', event: 'link_broke', instance, cause: faultText(cause) });
      this.#apply({ type: 'fault', code: 'internal' });
    }
  }

  closed(): void {
    this.#apply({ type: 'socket_closed' });
  }

  acknowledge(executionId: string): void {
    if (this.joined) this.#peer.control('RESULT_ACK', 0, { execution_id: executionId });
  }

  goAway(deadlineMs: number, reconnectAfterMs: number): void {
    this.#apply({ type: 'go_away', reason: 'draining', deadlineMs, reconnectAfterMs });
  }

  close(code: ErrorCode): void {
    this.#apply(code === 'replaced' ? { type: 'replaced' } : { type: 'fault', code });
  }

  #apply(event: LinkEvent): void {
    const { state, effects } = nextLink(this.#state, event);
    this.#state = state;
    for (const effect of effects) this.#carryOut(effect);
  }

  #carryOut(effect: LinkEffect): void {
    switch (effect.do) {
      case 'send':
        this.#peer.control(effect.name, 0, effect.body);
        break;
      case 'verify':
        void this.#identity.verify(effect.proof, effect.clusters);
        break;
      case 'join':
        this.#join(effect.agent, effect.hello);
        break;
      case 'renew':
        this.#identity.take(effect.agent);
        this.#identity.watch();
        break;
      case 'slots':
        this.#judge(this.#identity.allows(effect.body) ? this.#owner.slots(this, effect.body) : 'forbidden');
        break;
      case 'drain':
        this.#owner.drain(this);
        break;
      case 'deliver':
        this.#judge(this.streams.deliver(effect.stream, effect.message));
        break;
      case 'answer_status':
      case 'answer_session':
      case 'answer_claim':
      case 'answer_signal':
        this.questions.answer(effect);
        break;
      case 'heartbeat':
        this.#pulse.take(effect.body);
        break;
      case 'close':
        this.#socket.close(closeCode(effect.code), effect.code);
        break;
      case 'terminate':
        this.#socket.terminate();
        break;
      case 'leave':
        this.#leave();
        break;
    }
  }

  #join(agent: AuthenticatedAgent, hello: FromAgent['HELLO']): void {
    this.#deps.timers.clearTimeout(this.#helloTimer);
    this.#identity.take(agent);
    this.instance = hello.instance;
    const refusal = this.#owner.join(this, hello);
    if (refusal) {
      this.#apply({ type: 'refused', code: refusal });
      return;
    }
    const { serverId, replicas, heartbeatMs, deadMs } = this.#deps.config;
    this.#peer.joined = true;
    this.#peer.control('WELCOME', 0, {
      version: PROTOCOL_VERSION,
      server_id: serverId,
      replicas,
      peers: this.#owner.peers(this),
      heartbeat_ms: heartbeatMs,
      dead_ms: deadMs,
    });
    this.#identity.watch();
    if (this.joined) this.#pulse.start();
  }

  #judge(fault: ErrorCode | null): void {
    if (fault) this.#apply({ type: 'fault', code: fault });
  }

  #leave(): void {
    this.#deps.timers.clearTimeout(this.#helloTimer);
    this.#pulse.stop();
    this.#identity.close();
    this.#owner.leave(this);
    this.questions.close();
    this.streams.lose();
  }
}
