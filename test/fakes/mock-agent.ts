import { createKeyClaims, type KeyClaims } from '../../agent/executions/key-claims.ts';
import type { LinkHandlers, LinkSocketPort } from '../../gateway/link/link-socket.ts';
import type { ClusterAnnouncement, TemplateAnnouncement } from '../../shared/announcement.ts';
import { encodeFrame, type Frame } from '../../shared/frame.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import {
  type ExecutionResult,
  FROM_GATEWAY,
  type FromAgent,
  type FromGateway,
  type StartBody,
} from '../../shared/messages.ts';
import type { AgentIdentity } from './agent-identity.ts';
import { MockExecution } from './mock-execution.ts';
import { until } from './until.ts';

/** What a mock agent needs of a gateway: the in-memory door of one, or a real WebSocket behind the same face. */
export type Door = { acceptLink(socket: LinkSocketPort): LinkHandlers };

export type MockAgentOptions = {
  identity: AgentIdentity;
  instance?: string;
  now: () => number;
  /** The origin it signs. */
  origin?: string;
  clusters?: readonly ClusterAnnouncement[];
  /** Slots of every template of every cluster. */
  slots?: number;
  /** Does something else than HELLO when CHALLENGE comes. */
  onChallenge?: (agent: MockAgent, body: FromGateway['CHALLENGE']) => void;
  hello?: Partial<FromAgent['HELLO']>;
  /** Raises a grant again when an execution ends, as a real agent does. */
  refill?: boolean;
  /** Runs each START; without it a test takes `executions` itself. */
  run?: (execution: MockExecution) => void;
};

/**
 * An agent's end of one link that does what a test says, protocol breaches included. Frames cross in a microtask, as no
 * real socket delivers inside `send`.
 */
export class MockAgent {
  readonly options: MockAgentOptions;
  readonly instance: string;
  readonly executions: MockExecution[] = [];
  /** ATTACHes that no test has taken. */
  readonly attaches: { body: FromGateway['ATTACH']; stream: number }[] = [];
  readonly received: { name: keyof FromGateway; body: unknown; stream: number }[] = [];
  readonly peer: LinkPeer<typeof FROM_GATEWAY>;
  readonly granted = new Map<string, number>();
  /** Close code and reason once the gateway has closed; 1006 where it cut the connection. */
  closed: { code: number; reason: string } | undefined;
  /** STATUS answers by execution id; without one `unknown`, or `fenced` where the gateway fences. */
  readonly records = new Map<string, Omit<FromAgent['STATUS'], 'ref' | 'execution_id'>>();
  /** Answers neither STATUS nor heartbeats. */
  silent = false;
  readonly claims: KeyClaims;
  readonly #settled = new Set<string>();
  readonly #handlers: LinkHandlers;
  readonly #streams = new Map<number, MockExecution>();
  #down = false;

  constructor(door: Door, options: MockAgentOptions) {
    this.options = options;
    this.instance = options.instance ?? 'instance-1';
    this.claims = createKeyClaims({ clock: { now: options.now, wall: options.now, after: () => () => {} } });
    const receive = (message: Uint8Array) => {
      if (!this.#down) this.peer.receive(message);
    };
    this.#handlers = door.acceptLink({
      send: (message, sent) => {
        queueMicrotask(() => {
          receive(message);
          sent();
        });
      },
      close: (code, reason) => this.#close(code, reason),
      terminate: () => this.#close(1006, ''),
    });
    this.peer = new LinkPeer({
      socket: { send: (message, sent) => queueMicrotask(() => this.#deliver(message, sent)) },
      schemas: FROM_GATEWAY,
      channels: [0],
      peerOpens: true,
      now: () => performance.now(),
      handlers: {
        control: ({ name, body }, stream) => this.#control(name, body, stream),
        data: (stream, _channel, _offset, bytes) => {
          this.#streams.get(stream)?.takeInput(bytes);
          this.peer.consumed(stream, bytes.byteLength);
        },
        room: (stream) => this.#streams.get(stream)?.flush(),
        fault: (fault) => {
          throw new Error(`the gateway broke the protocol: ${fault.detail}`);
        },
      },
    });
    this.peer.joined = true;
  }

  /** Waits for WELCOME, or for the gateway to close. */
  async joined(): Promise<this> {
    await until(() => this.closed !== undefined || this.received.some(({ name }) => name === 'WELCOME'));
    return this;
  }

  send<Name extends keyof FromAgent>(name: Name, body: FromAgent[Name], stream = 0): void {
    this.peer.control(name, stream, body);
  }

  /** A frame as no agent of ours would send it. */
  raw(frame: Partial<Frame> & { type: number }): void {
    this.message(encodeFrame({ channel: 0, stream: 0, sequence: 1, body: new Uint8Array(0), ...frame }));
  }

  /** Any message. */
  message(data: Uint8Array | string): void {
    if (!this.#down) this.#handlers.message(data);
  }

  /** Raises the grants of all templates by `more`, or announces anew. */
  grant(more: number, clusters: readonly ClusterAnnouncement[] | null = null): void {
    const grants = (this.options.clusters ?? [announceCluster()]).flatMap(({ name: cluster, templates }) =>
      templates.map(({ name: template }) => {
        const granted = (this.granted.get(`${cluster}/${template}`) ?? 0) + more;
        this.granted.set(`${cluster}/${template}`, granted);
        return { cluster, template, granted };
      }),
    );
    this.send('SLOTS', { grants, clusters: clusters ? [...clusters] : null });
  }

  /** The connection breaks without a word. */
  cut(): void {
    if (this.#down) return;
    this.#down = true;
    this.#handlers.closed();
  }

  /** The next START, now or later. */
  async next(): Promise<MockExecution> {
    await until(() => this.executions.length > 0);
    return this.executions.shift() as MockExecution;
  }

  /** The stream that an ATTACH opened for an execution of any link, which goes on there. */
  async attached(execution: MockExecution): Promise<MockExecution & { from: FromGateway['ATTACH'] }> {
    const { id } = execution;
    await until(() => this.attaches.some(({ body }) => body.execution_id === id));
    const at = this.attaches.findIndex(({ body }) => body.execution_id === id);
    const [{ body, stream }] = this.attaches.splice(at, 1) as [(typeof this.attaches)[number]];
    const again = Object.assign(new MockExecution(this, stream, execution.start), { from: body });
    Object.assign(again.sent, execution.sent);
    this.#streams.set(stream, again);
    return again;
  }

  /** The first frame of that name, now or later. */
  async seen<Name extends keyof FromGateway>(name: Name): Promise<FromGateway[Name]> {
    await until(() => this.received.some((frame) => frame.name === name));
    return this.received.find((frame) => frame.name === name)?.body as FromGateway[Name];
  }

  ended(execution: MockExecution, refused = false): void {
    const { key } = execution.start;
    // Its EXIT may be said again to those who attach.
    if (key !== undefined && !this.#settled.has(execution.id))
      this.claims[refused ? 'refused' : 'ended'](key);
    this.#settled.add(execution.id);
    if (this.options.refill !== false) this.grantOne(execution.start);
  }

  grantOne({ cluster, template }: StartBody): void {
    const granted = (this.granted.get(`${cluster}/${template}`) ?? 0) + 1;
    this.granted.set(`${cluster}/${template}`, granted);
    this.send('SLOTS', { grants: [{ cluster, template, granted }], clusters: null });
  }

  #deliver(message: Uint8Array, sent: () => void): void {
    if (!this.#down) this.#handlers.message(message);
    sent();
  }

  #close(code: number, reason: string): void {
    if (this.#down) return;
    this.#down = true;
    this.closed = { code, reason };
    queueMicrotask(() => this.#handlers.closed());
  }

  #control(name: keyof FromGateway, body: unknown, stream: number): void {
    this.received.push({ name, body, stream });
    switch (name) {
      case 'CHALLENGE':
        if (this.options.onChallenge) this.options.onChallenge(this, body as FromGateway['CHALLENGE']);
        else void this.hello(body as FromGateway['CHALLENGE']);
        break;
      case 'WELCOME':
        this.grant(this.options.slots ?? 4, this.options.clusters ?? [announceCluster()]);
        break;
      case 'HEARTBEAT':
        this.#heartbeat(body as FromGateway['HEARTBEAT']);
        break;
      case 'START':
        this.#start(body as StartBody, stream);
        break;
      case 'ATTACH':
        this.#attach(body as FromGateway['ATTACH'], stream);
        break;
      case 'END':
        this.#streams.get(stream)?.inputEnded();
        break;
      case 'CANCEL':
        this.#cancel(body as FromGateway['CANCEL'], stream);
        break;
      case 'CLAIM':
        this.#claim(body as FromGateway['CLAIM']);
        break;
      case 'STATUS':
        this.#status(body as FromGateway['STATUS']);
        break;
      default:
        break;
    }
  }

  /** HELLO with a good proof, unless `options.hello` says otherwise. */
  async hello({ nonce }: FromGateway['CHALLENGE']): Promise<void> {
    const { identity, now, origin, clusters = [announceCluster()], hello = {} } = this.options;
    const proof = await identity.prove(nonce, this.instance, now(), origin);
    this.send('HELLO', {
      min_version: 1,
      max_version: 1,
      token: identity.token,
      instance: this.instance,
      ...proof,
      software: 'mock/1',
      clusters: clusters.map(({ name }) => name),
      ...hello,
    });
  }

  #claim(ask: FromGateway['CLAIM']): void {
    if (this.silent) return;
    const { execution_id, digest } = this.claims.claim(ask) ?? { execution_id: null, digest: null };
    const state = this.records.get(execution_id ?? '')?.state ?? 'unknown';
    this.send('CLAIM', { ref: ask.ref, execution_id, digest, state });
  }

  #heartbeat({ id, reply }: FromGateway['HEARTBEAT']): void {
    if (reply && !this.silent) this.send('HEARTBEAT', { id: 1, reply: false, echo: id, running: 0 });
  }

  #start(body: StartBody, stream: number): void {
    this.peer.open(stream);
    const execution = new MockExecution(this, stream, body);
    this.#streams.set(stream, execution);
    if (body.key !== undefined) this.claims.began(body.key);
    if (this.options.run) this.options.run(execution);
    else this.executions.push(execution);
  }

  #attach(body: FromGateway['ATTACH'], stream: number): void {
    this.peer.reopen(stream, body.offsets, body.pending);
    this.attaches.push({ body, stream });
  }

  #cancel({ reason, execution_id }: FromGateway['CANCEL'], stream: number): void {
    if (execution_id === undefined) this.#streams.get(stream)?.cancel(reason);
    else this.#answer(0, execution_id, false);
  }

  #status({ ref, execution_id, refuse_if_unknown }: FromGateway['STATUS']): void {
    this.#answer(ref, execution_id, refuse_if_unknown);
  }

  #answer(ref: number, executionId: string, fence: boolean): void {
    if (this.silent) return;
    const known = this.records.get(executionId) ?? {
      state: fence ? ('fenced' as const) : ('unknown' as const),
      record: null,
    };
    this.send('STATUS', { ref, execution_id: executionId, ...known });
  }
}

export function announceTemplate(changes: Partial<TemplateAnnouncement> = {}): TemplateAnnouncement {
  return {
    name: 'default',
    hash: 'hash',
    languages: ['python', 'bash'],
    total: 4,
    reuse: 'single_use',
    network: 'none',
    max_memory_mb: 256,
    max_timeout_ms: 60_000,
    trouble: null,
    ...changes,
  };
}

export function announceCluster(changes: Partial<ClusterAnnouncement> = {}): ClusterAnnouncement {
  return {
    name: 'lab',
    backend: 'local',
    state: 'ready',
    detail: null,
    kubernetes_version: null,
    isolation: { checked_at: null, findings: [] },
    templates: [announceTemplate()],
    ...changes,
  };
}

export const RESULT: ExecutionResult = {
  outcome: 'exited',
  exit_code: 0,
  signal: null,
  timed_out: false,
  duration_ms: 12,
  cpu_ms: 5,
  peak_memory_bytes: 1_000_000,
  stdout_bytes: 0,
  stderr_bytes: 0,
  stdout_truncated: false,
  stderr_truncated: false,
  files_omitted: [],
  files_omitted_count: 0,
};
