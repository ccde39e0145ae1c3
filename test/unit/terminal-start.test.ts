import { expect, test } from 'vitest';
import type { Caller } from '../../gateway/auth/caller.ts';
import { LinkStreams } from '../../gateway/link/link-streams.ts';
import { OPEN_TERMINAL_MS, startTerminal } from '../../gateway/terminals/terminal-start.ts';
import { CHANNEL } from '../../shared/frame-type.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import { FROM_AGENT, FROM_GATEWAY } from '../../shared/messages.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

const START = {
  caller: {
    tenant: 'acme',
    principal: 'acme/alice',
    holder: 'alice',
    limits: { memory_mb: 256, concurrency: 8 },
  } as Caller,
  place: { id: 'session', cluster: 'lab', instance: 'instance-1', template: 'python' },
  ask: { name: 'main', rows: 24, columns: 80, term: 'xterm' },
  executionId: 'execution-1',
  requestId: 'request-1',
} as Parameters<typeof startTerminal>[1];

function pass(to: () => { receive(message: Uint8Array): void }, message: Uint8Array, done: () => void) {
  queueMicrotask(() => {
    to().receive(message);
    done();
  });
}

/** A link to an agent that says only what the test says, and the names of what it was sent. */
function link() {
  const clock = createFakeClock();
  const sent: string[] = [];
  const agent: LinkPeer<typeof FROM_GATEWAY> = new LinkPeer({
    socket: { send: (message, done) => pass(() => peer, message, done) },
    schemas: FROM_GATEWAY,
    channels: [CHANNEL.input],
    peerOpens: true,
    now: clock.now,
    handlers: {
      control: ({ name }, stream) => {
        sent.push(name);
        if (name === 'START') agent.open(stream);
      },
      data() {},
      room() {},
      fault: ({ detail }) => expect.unreachable(detail),
    },
  });
  const peer: LinkPeer<typeof FROM_AGENT> = new LinkPeer({
    socket: { send: (message, done) => pass(() => agent, message, done) },
    schemas: FROM_AGENT,
    channels: [],
    peerOpens: false,
    now: clock.now,
    handlers: {
      control: (message, stream) => void streams.deliver(stream, message as never),
      data() {},
      room() {},
      fault: ({ detail }) => expect.unreachable(detail),
    },
  });
  agent.joined = true;
  peer.joined = true;
  const streams = new LinkStreams(peer);
  const timers = {
    setTimeout: (run: () => void, ms: number) => clock.after(ms, run),
    clearTimeout: (cancel: unknown) => (cancel as () => void)(),
  };
  return { clock, sent, agent, streams, timers };
}

test('a terminal that its agent accepts and never opens is given up in time, and cancelled', async () => {
  const { clock, sent, agent, streams, timers } = link();
  let failure: unknown;
  const opening = startTerminal({ streams }, START, timers).catch((error: unknown) => {
    failure = error;
  });
  await clock.settle();
  agent.control('ACCEPT', 1, {});
  await clock.advance(OPEN_TERMINAL_MS - 1);
  expect([failure, sent]).toEqual([undefined, ['START', 'END']]);
  await clock.advance(1);
  await opening;
  expect(failure).toMatchObject({ code: 'deadline_exceeded' });
  await clock.settle();
  expect([sent.at(-1), streams.size]).toEqual(['CANCEL', 0]);
});

test('a terminal that opens is not looked at again', async () => {
  const { clock, sent, agent, streams, timers } = link();
  const opening = startTerminal({ streams }, START, timers);
  await clock.settle();
  agent.control('ACCEPT', 1, {});
  agent.control('STARTED', 1, {});
  expect(await opening).toBe(true);
  await clock.advance(OPEN_TERMINAL_MS);
  expect([sent.includes('CANCEL'), streams.size]).toEqual([false, 0]);
});
