import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { encodeFrame, type Frame } from '../../shared/frame.ts';
import { TYPE } from '../../shared/frame-type.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import { FROM_AGENT, type FromAgent, type FromGateway, type StartBody } from '../../shared/messages.ts';
import { START } from './start-body.ts';

/** A frame of the agent's, as the mock saw it. */
export type Seen = {
  [Name in keyof FromAgent]: { name: Name; stream: number; body: FromAgent[Name] };
}[keyof FromAgent];

/** One link at the mock's end. It does what the test says and nothing else, once WELCOME is out. */
export type MockLink = {
  readonly request: IncomingMessage;
  readonly socket: WebSocket;
  readonly peer: LinkPeer<typeof FROM_AGENT>;
  readonly seen: Seen[];
  /** Output by stream and channel. */
  readonly output: Map<string, Buffer[]>;
  readonly closed: Promise<{ code: number; reason: string }>;
  readonly granted: Map<string, number>;
  /** What the agent broke, if it did. */
  fault: string | undefined;
  /** The first frame of that name that satisfies `where`, now or later. */
  next<Name extends keyof FromAgent>(
    name: Name,
    where?: (body: FromAgent[Name], stream: number) => boolean,
  ): Promise<{ stream: number; body: FromAgent[Name] }>;
  send<Name extends keyof FromGateway>(name: Name, body: FromGateway[Name], stream?: number): void;
  /** Opens a stream, sends START and the input, END last. */
  start(start?: Partial<StartBody>, input?: StartInput): number;
  /** Opens a stream for an execution that is under way, or over. */
  attach(executionId: string, request: Partial<FromGateway['ATTACH']>): number;
  input(stream: number, bytes: Uint8Array): void;
  text(stream: number, channel: 1 | 2 | 3): string;
  /** A frame as no gateway would send it. */
  raw(frame: Partial<Frame> & { type: number }): void;
  /** Allows the agent to send as much more as was read; without it a stream stops at its window. */
  autoWindow: boolean;
};

export type StartInput = { code?: string; stdin?: string; manifest?: string };

export type MockGatewayOptions = {
  serverId?: string;
  replicas?: number;
  /** Replaces the handshake. The default sends CHALLENGE, and WELCOME after HELLO. */
  onLink?: (link: MockLink, mock: MockGateway) => void;
  protocols?: 'agree' | 'ignore';
  heartbeatMs?: number;
  deadMs?: number;
  /** Refuses upgrades with this status. */
  refuse?: number;
  /** How far the gateway's clock is ahead of this machine's. */
  aheadMs?: number;
};

export type MockGateway = {
  readonly url: URL;
  readonly links: MockLink[];
  options: MockGatewayOptions;
  /** The next link that is dialled, joined unless `onLink` says otherwise. */
  nextLink(): Promise<MockLink>;
  challenge(link: MockLink): void;
  welcome(link: MockLink): void;
  close(): Promise<void>;
};

const NONCE = 'n'.repeat(43);
let starts = 0;

/** A gateway that misbehaves on purpose, over real sockets. */
export async function createMockGateway(options: MockGatewayOptions = {}): Promise<MockGateway> {
  const http = createServer();
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: true,
    handleProtocols: (offered) => (mock.options.protocols === 'ignore' ? false : ([...offered][0] ?? false)),
  });
  server.on('headers', (headers) => {
    const { aheadMs } = mock.options;
    if (aheadMs !== undefined) headers.push(`Date: ${new Date(Date.now() + aheadMs).toUTCString()}`);
  });
  const arrivals: MockLink[] = [];
  const waiting: ((link: MockLink) => void)[] = [];
  http.on('upgrade', (request, socket, head) => {
    // A client that is refused may reset the connection.
    socket.on('error', () => socket.destroy());
    if (mock.options.refuse !== undefined) {
      socket.end(`HTTP/1.1 ${mock.options.refuse} No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    server.handleUpgrade(request, socket, head, (ws) => {
      const link = createMockLink(ws, request);
      mock.links.push(link);
      if (mock.options.onLink) mock.options.onLink(link, mock);
      else {
        mock.challenge(link);
        void link.next('HELLO').then(() => mock.welcome(link));
      }
      const waiter = waiting.shift();
      if (waiter) waiter(link);
      else arrivals.push(link);
    });
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const mock: MockGateway = {
    url: new URL(`http://127.0.0.1:${(http.address() as AddressInfo).port}`),
    links: [],
    options,
    nextLink() {
      const link = arrivals.shift();
      if (link) return Promise.resolve(link);
      return new Promise((resolve) => waiting.push(resolve));
    },
    challenge(link) {
      const server_id = mock.options.serverId ?? 'replica-1';
      link.send('CHALLENGE', { nonce: NONCE, server_id, min_version: 1, max_version: 1 });
    },
    welcome(link) {
      link.peer.joined = true;
      link.send('WELCOME', {
        version: 1,
        server_id: mock.options.serverId ?? 'replica-1',
        replicas: mock.options.replicas ?? 1,
        heartbeat_ms: mock.options.heartbeatMs ?? 10_000,
        dead_ms: mock.options.deadMs ?? 25_000,
      });
    },
    async close() {
      for (const client of server.clients) client.terminate();
      http.closeAllConnections();
      http.close();
      await once(http, 'close');
    },
  };
  return mock;
}

function createMockLink(socket: WebSocket, request: IncomingMessage): MockLink {
  const closed = Promise.withResolvers<{ code: number; reason: string }>();
  const waiting = new Set<() => void>();
  let lastStream = 0;
  const peer = new LinkPeer({
    socket: { send: (message, sent) => socket.send(message, sent) },
    schemas: FROM_AGENT,
    channels: [1, 2, 3],
    peerOpens: false,
    now: () => performance.now(),
    handlers: {
      control(message, stream) {
        link.seen.push({ ...message, stream } as Seen);
        if (message.name === 'SLOTS')
          for (const { cluster, template, granted } of message.body.grants)
            link.granted.set(`${cluster}/${template}`, granted);
        for (const look of [...waiting]) look();
      },
      data(stream, channel, _offset, bytes) {
        const key = `${stream}/${channel}`;
        const list = link.output.get(key) ?? [];
        list.push(Buffer.from(bytes));
        link.output.set(key, list);
        if (link.autoWindow) peer.consumed(stream, bytes.byteLength);
        for (const look of [...waiting]) look();
      },
      fault({ detail }) {
        link.fault = detail;
      },
    },
  });
  socket.on('message', (data: Buffer) => peer.receive(data));
  socket.on('error', () => {});
  socket.on('close', (code, reason) => closed.resolve({ code, reason: reason.toString() }));

  const link: MockLink = {
    request,
    socket,
    peer,
    seen: [],
    output: new Map(),
    closed: closed.promise,
    granted: new Map(),
    fault: undefined,
    autoWindow: true,
    next(name, where = () => true) {
      return new Promise((resolve) => {
        const look = () => {
          const found = link.seen.find((one) => one.name === name && where(one.body as never, one.stream));
          if (!found) return;
          waiting.delete(look);
          resolve(found as never);
        };
        waiting.add(look);
        look();
      });
    },
    send: (name, body, stream = 0) => peer.control(name, stream, body),
    start(start = {}, input = {}) {
      lastStream += 1;
      starts += 1;
      const stream = lastStream;
      const { code = 'print(1)', stdin, manifest = '{"args":[],"env":{},"files":[]}' } = input;
      const parts = [manifest, code, stdin ?? ''].map((part) => Buffer.from(part));
      peer.open(stream);
      link.send(
        'START',
        {
          ...START,
          execution_id: `execution-${starts}`,
          last_line_interactive: false,
          sizes: {
            manifest: parts[0]?.byteLength ?? 0,
            code: parts[1]?.byteLength ?? 0,
            stdin: stdin === undefined ? null : (parts[2]?.byteLength ?? 0),
            files: 0,
          },
          ...start,
        },
        stream,
      );
      for (const part of parts) peer.data(stream, 0, part);
      peer.behind('END', stream, 0);
      return stream;
    },
    attach(executionId, request) {
      lastStream += 1;
      const from = { reader: null, offsets: { '1': 0, '2': 0, '3': 0 }, files: 0, pending: 0 };
      const body = { ...from, ...request };
      peer.reopen(lastStream, body.offsets, body.pending);
      link.send('ATTACH', { execution_id: executionId, ...body }, lastStream);
      return lastStream;
    },
    input: (stream, bytes) => peer.data(stream, 0, bytes),
    text: (stream, channel) => Buffer.concat(link.output.get(`${stream}/${channel}`) ?? []).toString(),
    raw({ type, channel = 0, stream = 0, sequence = 0, body = new Uint8Array() }) {
      socket.send(encodeFrame({ type, channel, stream, sequence, body }));
    },
  };
  return link;
}

/** A control frame's bytes for `raw`. */
export function controlFrame(name: keyof typeof TYPE, sequence: number, body: unknown, stream = 0): Frame {
  const bytes = typeof body === 'string' ? Buffer.from(body) : Buffer.from(JSON.stringify(body));
  return { type: TYPE[name], channel: 0, stream, sequence, body: bytes };
}
