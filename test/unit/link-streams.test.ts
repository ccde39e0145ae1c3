import { expect, test } from 'vitest';
import { LinkStreams } from '../../gateway/link/link-streams.ts';
import { encodeBody } from '../../shared/control.ts';
import { encodeFrame } from '../../shared/frame.ts';
import { TYPE } from '../../shared/frame-type.ts';
import { LINK_IN_FLIGHT_BYTES, MAX_DATA_BYTES, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import { FROM_AGENT } from '../../shared/messages.ts';
import { START } from '../fakes/start-body.ts';

test('input waits for its agent in one window, however far the agent opens its own', () => {
  const peer = new LinkPeer({
    // What is sent never leaves.
    socket: { send() {} },
    schemas: FROM_AGENT,
    channels: [1, 2, 3],
    peerOpens: false,
    now: () => 0,
    handlers: { control() {}, data() {}, fault: ({ detail }) => expect.unreachable(detail) },
  });
  peer.joined = true;
  const streams = new LinkStreams(peer);
  const stream = streams.start(START, { control: () => null, data: () => null, room() {}, lost() {} });
  expect(streams.room(stream)).toBe(STREAM_WINDOW_BYTES);
  const body = encodeBody({ limit: Number.MAX_SAFE_INTEGER });
  peer.receive(encodeFrame({ type: TYPE.WINDOW, channel: 0, stream, sequence: 1, body }));
  let queued = 0;
  for (; streams.room(stream) > 0 && queued < 64 * STREAM_WINDOW_BYTES; queued += MAX_DATA_BYTES)
    streams.input(stream, new Uint8Array(MAX_DATA_BYTES));
  expect(queued).toBeGreaterThanOrEqual(STREAM_WINDOW_BYTES);
  expect(queued).toBeLessThanOrEqual(STREAM_WINDOW_BYTES + LINK_IN_FLIGHT_BYTES);
});
