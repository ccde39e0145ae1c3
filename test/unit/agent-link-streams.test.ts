import { describe, expect, test } from 'vitest';
import { createExecutions } from '../../agent/executions/executions.ts';
import { createLinkStreams, type GatewayMessage } from '../../agent/link/link-streams.ts';
import type { AgentPeer } from '../../agent/link/stream-port.ts';
import { encodeBody } from '../../shared/control.ts';
import { decodeFrame, encodeFrame, isFault } from '../../shared/frame.ts';
import { TYPE, type TypeName, typeName } from '../../shared/frame-type.ts';
import { LINK_WINDOW_BYTES, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import { FROM_GATEWAY } from '../../shared/messages.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';
import { resultOf } from '../fakes/fake-runner.ts';
import { START } from '../fakes/start-body.ts';

const ATTACH = {
  execution_id: 'e1',
  reader: 'late',
  offsets: { '1': 0, '2': 0, '3': 0 },
  files: 0,
  pending: 0,
};

/** A link on stream 1 of which a gateway reads an execution that is over: more than its window has room for. */
function createReading() {
  const sent: string[] = [];
  const seen = { left: 0, faults: [] as string[], spent: [] as string[] };
  const executions = createExecutions({
    clock: createFakeClock(),
    policy: { maxOutputBytes: 1, hasCluster: () => false, findPool: () => undefined },
    onReport() {},
    onChange() {},
  });
  const peer: AgentPeer = new LinkPeer({
    socket: {
      send(message, gone) {
        const frame = decodeFrame(message);
        if (!isFault(frame)) sent.push(typeName(frame.type) ?? '');
        gone();
      },
    },
    schemas: FROM_GATEWAY,
    channels: [0],
    peerOpens: true,
    now: () => 0,
    handlers: {
      control: (message, stream) => streams.message(message as GatewayMessage, stream),
      data() {},
      room: (stream) => streams.room(stream),
      gone: (stream) => streams.gone(stream),
      fault: ({ detail }) => void seen.faults.push(detail),
    },
  });
  const streams = createLinkStreams({
    peer,
    executions: {
      ...executions,
      attach(_, port) {
        port.attached({ max_output_bytes: 0, queue_ms: 0 });
        port.data(1, new Uint8Array(STREAM_WINDOW_BYTES + 1));
        port.exit(resultOf(), () => {
          seen.left += 1;
        });
        return undefined;
      },
    },
    broke: (detail) => void seen.faults.push(detail),
    onStart: (cluster, template) => void seen.spent.push(`${cluster}/${template}`),
  });
  peer.joined = true;
  let sequence = 0;
  const receive = (name: TypeName, stream: number, body: object) => {
    sequence += 1;
    peer.receive(encodeFrame({ type: TYPE[name], channel: 0, stream, sequence, body: encodeBody(body) }));
  };
  receive('ATTACH', 1, ATTACH);
  // The link's own credit.
  for (let taken = 0; taken < STREAM_WINDOW_BYTES; ) {
    taken = peer.outbox.linkSent;
    receive('WINDOW', 0, { limit: LINK_WINDOW_BYTES + taken });
  }
  return { peer, sent, seen, streams, receive };
}

describe('the end of an execution that is told to a reader', () => {
  test('waits behind what the reader has not taken, and has left when it has', () => {
    const { peer, sent, seen, receive } = createReading();
    expect([peer.outbox.empty, seen.left, sent.includes('EXIT')]).toEqual([false, 0, false]);
    receive('WINDOW', 1, { limit: STREAM_WINDOW_BYTES + 1 });
    expect([peer.outbox.empty, seen.left, sent.at(-1)]).toEqual([true, 1, 'EXIT']);
    receive('DETACH', 1, {});
    expect(seen).toMatchObject({ left: 1, faults: [] });
  });

  test('goes with a reader that leaves before it has taken all of it', () => {
    const { peer, sent, seen, receive } = createReading();
    receive('DETACH', 1, {});
    expect([peer.outbox.empty, sent.includes('EXIT')]).toEqual([true, false]);
    expect(seen).toMatchObject({ left: 1, faults: [] });
  });

  test('goes with the link', () => {
    const { seen, streams } = createReading();
    streams.lose();
    expect(seen).toMatchObject({ left: 1, faults: [] });
  });
});

test('START spends a grant of its template, and as work of a session none', () => {
  const { seen, receive } = createReading();
  const open = { do: 'open', id: 's', ttl_ms: 1_000, idle_ms: null, ceiling: null };
  receive('START', 2, START);
  receive('START', 3, { ...START, execution_id: 'e3', session: open });
  receive('START', 4, { ...START, execution_id: 'e4', session: { do: 'bash', id: 's' } });
  expect(seen).toMatchObject({ spent: ['here/default', 'here/default'], faults: [] });
});
