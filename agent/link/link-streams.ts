import type { FromGateway } from '../../shared/messages.ts';
import type { Executions } from '../executions/executions.ts';
import { type AgentPeer, StreamPort } from './stream-port.ts';

/** A message of the gateway's, checked. */
export type GatewayMessage = {
  [Name in keyof FromGateway]: { name: Name; body: FromGateway[Name] };
}[keyof FromGateway];

/** CANCELs by id, of one link, whose execution has not ended yet: each is remembered until it has. */
export const MAX_ASKED = 10_000;

/** The executions that came over one link, by stream. */
export type LinkStreams = {
  message(message: GatewayMessage, stream: number): void;
  data(stream: number, bytes: Uint8Array): void;
  /** The gateway raised a stream's window. */
  room(stream: number): void;
  /** EXIT has left on a stream. */
  gone(stream: number): void;
  /** The link is lost: tells every execution on it. */
  lose(): void;
};

export type LinkStreamsDeps = {
  peer: AgentPeer;
  executions: Executions;
  /** The gateway broke the protocol. */
  broke: (detail: string) => void;
  /** Before an execution is taken or refused: a grant is spent. */
  onStart: (cluster: string, template: string) => void;
};

export function createLinkStreams({ peer, executions, broke, onStart }: LinkStreamsDeps): LinkStreams {
  const ports = new Map<number, StreamPort>();
  let isLost = false;
  let asked = 0;
  const forget = (stream: number) => void ports.delete(stream);

  function start(body: FromGateway['START'], stream: number): void {
    peer.open(stream);
    // Work of a session has its sandbox.
    if (!body.session || body.session.do === 'open') onStart(body.cluster, body.template);
    const port = new StreamPort(peer, stream, forget);
    ports.set(stream, port);
    port.input = executions.start(body, port);
  }

  function attach(body: FromGateway['ATTACH'], stream: number): void {
    peer.reopen(stream, body.offsets, body.pending);
    const port = new StreamPort(peer, stream, forget);
    ports.set(stream, port);
    port.input = executions.attach(body, port);
  }

  function feed(body: FromGateway['INPUT'], stream: number): void {
    peer.open(stream);
    const port = new StreamPort(peer, stream, forget);
    ports.set(stream, port);
    port.input = executions.feed(body, port);
  }

  function detach(stream: number): void {
    const port = ports.get(stream);
    port?.close();
    port?.input?.leave('detached');
  }

  function cancel({ execution_id, reason }: FromGateway['CANCEL'], stream: number): void {
    if (stream !== 0) {
      ports.get(stream)?.input?.cancel(reason);
      return;
    }
    if (execution_id === undefined) {
      broke('CANCEL names no execution');
      return;
    }
    const question = { ref: 0, execution_id, refuse_if_unknown: false };
    if (asked >= MAX_ASKED) broke('a flood of questions');
    else void tellEnd(question, executions.cancel(execution_id, reason));
  }

  async function tellEnd(question: FromGateway['STATUS'], ended: Promise<void>): Promise<void> {
    asked += 1;
    await ended;
    asked -= 1;
    if (!isLost) peer.control('STATUS', 0, executions.status(question));
  }

  async function tellSessions(ask: FromGateway['SESSION']): Promise<void> {
    const answer = await executions.sessions.answer(ask);
    if (!isLost) peer.control('SESSION', 0, answer);
  }

  return {
    message(message, stream) {
      switch (message.name) {
        case 'START':
          if (stream === 0) broke('START on stream 0');
          else start(message.body, stream);
          break;
        case 'END':
          if (ports.get(stream)?.input?.end(message.body) === false)
            broke('END before the input that START announced');
          break;
        case 'CANCEL':
          cancel(message.body, stream);
          break;
        case 'RESULT_ACK':
          if (stream !== 0) broke('RESULT_ACK on a stream');
          else executions.acknowledge(message.body.execution_id);
          break;
        case 'STATUS':
          if (stream !== 0) broke('STATUS on a stream');
          else peer.control('STATUS', 0, executions.status(message.body));
          break;
        case 'ATTACH':
          if (stream === 0) broke('ATTACH on stream 0');
          else attach(message.body, stream);
          break;
        case 'INPUT':
          if (stream === 0) broke('INPUT on stream 0');
          else feed(message.body, stream);
          break;
        case 'RESIZE':
          ports.get(stream)?.input?.resize?.(message.body);
          break;
        case 'DETACH':
          detach(stream);
          break;
        case 'CLAIM':
          if (stream !== 0) broke('CLAIM on a stream');
          else peer.control('CLAIM', 0, executions.claim(message.body));
          break;
        case 'SIGNAL':
          if (stream !== 0) broke('SIGNAL on a stream');
          else peer.control('SIGNAL', 0, executions.signal(message.body));
          break;
        case 'SESSION':
          if (stream !== 0) broke('SESSION on a stream');
          else void tellSessions(message.body);
          break;
        default:
        // The rest is the link's own.
      }
    },
    data(stream, bytes) {
      if (ports.get(stream)?.input?.data(bytes) === false) broke('more input than START announced');
    },
    room(stream) {
      const port = ports.get(stream);
      if (port?.isOpenedTooFar) broke('a window for bytes that were never taken');
      else port?.input?.window(port.limit);
    },
    gone: (stream) => ports.get(stream)?.gone(),
    lose() {
      isLost = true;
      for (const port of [...ports.values()]) {
        const { input } = port;
        port.gone('link_lost');
        input?.leave('link_lost');
      }
    },
  };
}
