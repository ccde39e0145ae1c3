import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeFrame, type Frame } from '../../shared/frame.ts';
import { TYPE } from '../../shared/frame-type.ts';
import { Inbox } from '../../shared/inbox.ts';
import {
  LINK_WINDOW_BYTES,
  MAX_CONTROL_BYTES,
  MAX_DATA_BYTES,
  MAX_HELLO_BYTES,
  MAX_MESSAGE_BYTES,
  STREAM_WINDOW_BYTES,
} from '../../shared/limits.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import { FROM_AGENT, FROM_GATEWAY } from '../../shared/messages.ts';
import { START } from '../fakes/start-body.ts';

type Arrived = {
  faults: string[];
  data: Map<string, number[]>;
  words: string[];
  consumable: Map<number, number>;
};

function end(schemas: typeof FROM_AGENT | typeof FROM_GATEWAY, channels: number[], peerOpens: boolean) {
  const wire: { message: Uint8Array<ArrayBuffer>; sent: () => void }[] = [];
  const arrived: Arrived = { faults: [], data: new Map(), words: [], consumable: new Map() };
  const peer = new LinkPeer({
    socket: { send: (message, sent) => void wire.push({ message, sent }) },
    schemas: schemas as typeof FROM_AGENT,
    channels,
    peerOpens,
    now: () => 0,
    handlers: {
      control(message, stream) {
        arrived.words.push(`${message.name} ${stream}`);
        if ((message.name as string) === 'START') peer.open(stream);
      },
      data(stream, channel, offset, bytes) {
        const key = `${stream}/${channel}`;
        const list = arrived.data.get(key) ?? [];
        expect(offset).toBe(list.length);
        list.push(...bytes);
        arrived.data.set(key, list);
        arrived.words.push(`DATA ${stream}`);
        arrived.consumable.set(stream, (arrived.consumable.get(stream) ?? 0) + bytes.byteLength);
      },
      fault: ({ detail }) => void arrived.faults.push(detail),
    },
  });
  peer.joined = true;
  return { peer, wire, arrived };
}

const EXIT = { result: null, failure: { code: 'runner_error', detail: '', started: 'yes' } };

type Step =
  | { do: 'open' }
  | { do: 'write'; from: 'gateway' | 'agent'; pick: number; channel: 1 | 2 | 3; bytes: number }
  | { do: 'deliver'; to: 'gateway' | 'agent'; messages: number }
  | { do: 'consume'; at: 'gateway' | 'agent'; pick: number; share: number }
  | { do: 'exit'; pick: number }
  | { do: 'beat'; from: 'gateway' | 'agent' };

const side = fc.constantFrom('gateway' as const, 'agent' as const);
const pick = fc.nat(7);
const script: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 1, arbitrary: fc.record({ do: fc.constant('open' as const) }) },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('write' as const),
        from: side,
        pick,
        channel: fc.constantFrom(1 as const, 2 as const, 3 as const),
        bytes: fc.integer({ min: 1, max: 200_000 }),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('deliver' as const),
        to: side,
        messages: fc.integer({ min: 1, max: 12 }),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('consume' as const),
        at: side,
        pick,
        share: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('exit' as const), pick }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('beat' as const), from: side }) },
  ),
  { maxLength: 80 },
);

describe('two ends of a link', () => {
  test('agree under every interleaving: nothing over credit, nothing lost, nothing out of order', () => {
    fc.assert(
      fc.property(script, (steps) => {
        const gateway = end(FROM_AGENT, [1, 2, 3], false);
        const agent = end(FROM_GATEWAY, [0], true);
        const ends = { gateway, agent };
        const written = new Map<string, number[]>();
        const exited = new Set<number>();
        let opened = 0;
        let value = 0;

        const deliver = (to: 'gateway' | 'agent'): boolean => {
          const from = ends[to === 'gateway' ? 'agent' : 'gateway'];
          const message = from.wire.shift();
          if (!message) return false;
          message.sent();
          ends[to].peer.receive(message.message);
          return true;
        };
        const consume = (at: 'gateway' | 'agent', stream: number, bytes: number) => {
          const { peer, arrived } = ends[at];
          arrived.consumable.set(stream, (arrived.consumable.get(stream) ?? 0) - bytes);
          peer.consumed(stream, bytes);
        };
        const known = (n: number) => (opened === 0 ? 0 : 1 + (n % opened));
        const open = (stream: number) => agent.peer.inbox.has(stream) && !exited.has(stream);

        for (const step of steps) {
          if (step.do === 'open') {
            opened += 1;
            gateway.peer.open(opened);
            gateway.peer.control('START', opened, START);
          } else if (step.do === 'write') {
            const stream = known(step.pick);
            if (stream === 0 || (step.from === 'agent' && !open(stream)) || exited.has(stream)) continue;
            const { peer } = ends[step.from];
            const channel = step.from === 'gateway' ? 0 : step.channel;
            const bytes = Uint8Array.from(
              { length: Math.min(step.bytes, peer.outbox.room(stream)) },
              () => value++ % 251,
            );
            peer.data(stream, channel, bytes);
            const key = `${step.from}/${stream}/${channel}`;
            written.set(key, [...(written.get(key) ?? []), ...bytes]);
          } else if (step.do === 'deliver') for (let n = 0; n < step.messages && deliver(step.to); n += 1);
          else if (step.do === 'consume') {
            const stream = known(step.pick);
            const waiting = ends[step.at].arrived.consumable.get(stream) ?? 0;
            if (stream !== 0) consume(step.at, stream, Math.floor(waiting * step.share));
          } else if (step.do === 'exit') {
            const stream = known(step.pick);
            if (stream === 0 || !open(stream)) continue;
            exited.add(stream);
            agent.peer.behind('EXIT', stream, 0, EXIT);
          } else
            ends[step.from].peer.control('HEARTBEAT', 0, { id: 1, reply: false, echo: null, running: 0 });
        }
        for (;;) {
          let moved = false;
          while (deliver('agent') || deliver('gateway')) moved = true;
          for (const at of ['gateway', 'agent'] as const)
            for (const [stream, bytes] of ends[at].arrived.consumable) {
              if (bytes > 0) moved = true;
              consume(at, stream, bytes);
            }
          if (!moved) break;
        }
        expect([...gateway.arrived.faults, ...agent.arrived.faults]).toEqual([]);
        for (const [key, bytes] of written) {
          const [from, stream, channel] = key.split('/');
          const { arrived } = ends[from === 'gateway' ? 'agent' : 'gateway'];
          expect(arrived.data.get(`${stream}/${channel}`) ?? []).toEqual(bytes);
        }
        for (const stream of exited) {
          const { words } = gateway.arrived;
          expect(words.indexOf(`EXIT ${stream}`)).toBeGreaterThan(words.lastIndexOf(`DATA ${stream}`));
        }
      }),
      { numRuns: 150 },
    );
  });

  test('hold no more of a stream than its window while its reader stalls, and serve the others', () => {
    const { gateway, agent, pass } = joined();
    agent.peer.data(1, 1, new Uint8Array(agent.peer.outbox.room(1)));
    pass();
    expect(gateway.arrived.data.get('1/1')).toHaveLength(STREAM_WINDOW_BYTES);
    expect(agent.peer.outbox.room(1)).toBe(0);
    // More than the link's whole window goes by on the other stream.
    for (let round = 0; round < 40; round += 1) {
      agent.peer.data(2, 1, new Uint8Array(agent.peer.outbox.room(2)));
      pass();
      gateway.peer.consumed(2, gateway.arrived.consumable.get(2) ?? 0);
      gateway.arrived.consumable.set(2, 0);
      gateway.arrived.data.set('2/1', []);
      pass();
      agent.peer.outbox.open(2, [0, 0, 0, 0]);
      gateway.peer.inbox.open(2);
    }
    expect(gateway.arrived.faults).toEqual([]);
  });
});

test('what comes for a stream that nobody reads any more keeps no other from sending', () => {
  const { gateway, agent, pass } = joined();
  gateway.peer.close(1, true);
  agent.peer.data(1, 1, new Uint8Array(STREAM_WINDOW_BYTES));
  pass();
  agent.peer.data(2, 1, new Uint8Array(1));
  pass();
  expect([...gateway.arrived.data]).toEqual([['2/1', [0]]]);
});

describe('one end of a link', () => {
  const frame = (changes: Partial<Frame>) =>
    encodeFrame({
      type: TYPE.STATUS,
      channel: 0,
      stream: 0,
      sequence: 1,
      body: new Uint8Array(),
      ...changes,
    });
  const body = (value: unknown) =>
    new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));
  const status = body({ ref: 1, execution_id: 'e', refuse_if_unknown: true });
  const faults: [name: string, message: Uint8Array, code: string][] = [
    ['a frame that is cut', frame({}).subarray(0, 15), 'protocol_error'],
    ['an unknown type', frame({ type: 0x99, body: status }), 'protocol_error'],
    ["the other side's type", frame({ type: TYPE.EXIT, body: status }), 'protocol_error'],
    ["a runner's type", frame({ type: TYPE.READY, body: status }), 'protocol_error'],
    ['a control number that is skipped', frame({ sequence: 2, body: status }), 'protocol_error'],
    ['a control number of 0', frame({ sequence: 0, body: status }), 'protocol_error'],
    ['a control frame with a channel', frame({ channel: 1, body: status }), 'protocol_error'],
    ['a body that is no JSON', frame({ body: body('{') }), 'protocol_error'],
    ['a body that is no UTF-8', frame({ body: new Uint8Array([0x22, 0xff, 0x22]) }), 'protocol_error'],
    ['a body that is no object', frame({ body: body('[]') }), 'protocol_error'],
    ['an empty body', frame({}), 'protocol_error'],
    [
      'a member of another type',
      frame({ body: body({ ref: '1', execution_id: 'e', refuse_if_unknown: true }) }),
      'protocol_error',
    ],
    ['a member that is missing', frame({ body: body({ ref: 1 }) }), 'protocol_error'],
    ['nesting without end', frame({ body: body('['.repeat(60_000)) }), 'protocol_error'],
    ['a control body over its bound', frame({ body: new Uint8Array(MAX_CONTROL_BYTES + 1) }), 'too_large'],
    [
      'data over its bound',
      frame({ type: TYPE.DATA, stream: 1, sequence: 0, body: new Uint8Array(MAX_DATA_BYTES + 1) }),
      'too_large',
    ],
    ['data of no bytes', frame({ type: TYPE.DATA, stream: 1, sequence: 0 }), 'protocol_error'],
    [
      'data on a stream that never was',
      frame({ type: TYPE.DATA, stream: 9, sequence: 0, body: status }),
      'protocol_error',
    ],
    [
      'data on the link itself',
      frame({ type: TYPE.DATA, stream: 0, sequence: 0, body: status }),
      'protocol_error',
    ],
    [
      'data on a channel of the other side',
      frame({ type: TYPE.DATA, stream: 1, channel: 1, sequence: 0, body: status }),
      'protocol_error',
    ],
    [
      'data out of its place',
      frame({ type: TYPE.DATA, stream: 1, sequence: 5, body: status }),
      'protocol_error',
    ],
    [
      'an END out of its place',
      frame({ type: TYPE.END, stream: 1, sequence: 5, body: body({}) }),
      'protocol_error',
    ],
    [
      'an END on a channel of the other side',
      frame({ type: TYPE.END, stream: 1, channel: 1, sequence: 0, body: body({}) }),
      'protocol_error',
    ],
    [
      'a stream that is not the next',
      frame({ type: TYPE.START, stream: 3, body: body(START) }),
      'protocol_error',
    ],
    ['a stream that was opened', frame({ type: TYPE.START, stream: 1, body: body(START) }), 'protocol_error'],
    [
      'an END of the link itself',
      frame({ type: TYPE.END, stream: 0, sequence: 0, body: body({}) }),
      'protocol_error',
    ],
    [
      'a window that falls',
      frame({ type: TYPE.WINDOW, stream: 1, body: body({ limit: 1 }) }),
      'protocol_error',
    ],
    ['a link window that falls', frame({ type: TYPE.WINDOW, body: body({ limit: 1 }) }), 'protocol_error'],
    [
      'a window that is negative',
      frame({ type: TYPE.WINDOW, stream: 1, body: body({ limit: -1 }) }),
      'protocol_error',
    ],
    ['a message over its bound', new Uint8Array(MAX_MESSAGE_BYTES + 1).fill(1), 'too_large'],
  ];
  /** The gateway's end of nothing: what it is given, and what it makes of that. */
  function receiver() {
    const told: { code: string; detail: string }[] = [];
    const words: string[] = [];
    const peer = new LinkPeer({
      socket: { send: () => {} },
      schemas: FROM_GATEWAY,
      channels: [0],
      peerOpens: true,
      now: () => 0,
      handlers: {
        control: ({ name }) => void words.push(name),
        data: () => void words.push('DATA'),
        fault: (fault) => void told.push(fault),
      },
    });
    return { peer, told, words };
  }

  function joinedReceiver() {
    const receiving = receiver();
    receiving.peer.joined = true;
    receiving.peer.open(1);
    return receiving;
  }

  test.for(faults)('calls %s a fault, and delivers nothing after it', ([, message, code]) => {
    const { peer, told, words } = joinedReceiver();
    peer.receive(message);
    peer.receive(frame({ body: status }));
    expect(told).toMatchObject([{ code }]);
    expect(words).toEqual([]);
  });

  test('takes what is just within its bounds', () => {
    const { peer, told } = receiver();
    const padded = (size: number) => {
      const text = JSON.stringify({ ref: 1, execution_id: 'e', refuse_if_unknown: true });
      return body(text + ' '.repeat(size - text.length));
    };
    peer.receive(frame({ body: padded(MAX_HELLO_BYTES - 16) }));
    expect(told).toEqual([]);
    peer.joined = true;
    peer.open(1);
    peer.receive(frame({ sequence: 2, body: padded(MAX_CONTROL_BYTES) }));
    for (let offset = 0; offset < STREAM_WINDOW_BYTES; offset += MAX_DATA_BYTES)
      peer.receive(
        frame({ type: TYPE.DATA, stream: 1, sequence: offset, body: new Uint8Array(MAX_DATA_BYTES) }),
      );
    expect(told).toEqual([]);
    peer.receive(
      frame({ type: TYPE.DATA, stream: 1, sequence: STREAM_WINDOW_BYTES, body: new Uint8Array(1) }),
    );
    expect(told).toMatchObject([{ detail: 'DATA over the stream credit' }]);
  });

  test('holds messages to 16 KiB before WELCOME', () => {
    const { peer, told } = receiver();
    peer.receive(new Uint8Array(MAX_HELLO_BYTES + 1).fill(1));
    expect(told).toMatchObject([{ code: 'too_large' }]);
  });

  test('calls data over the link credit a fault, also on streams that have ended', () => {
    const inbox = new Inbox({ channels: [0], peerOpens: true });
    inbox.open(1);
    inbox.close(1);
    const data = { type: TYPE.DATA, channel: 0, stream: 1, sequence: 0 };
    for (let received = 0; received < LINK_WINDOW_BYTES; received += MAX_DATA_BYTES)
      expect(inbox.accept({ ...data, body: new Uint8Array(MAX_DATA_BYTES) })).toBe('drop');
    expect(inbox.accept({ ...data, body: new Uint8Array(1) })).toMatchObject({
      detail: 'DATA over the link credit',
    });
  });

  test('counts in the window of a stream that is attached again what was not taken before', () => {
    const { peer } = end(FROM_AGENT, [1, 2, 3], false);
    peer.reopen(1, { 1: 7, 2: 0, 3: 0 }, STREAM_WINDOW_BYTES - 1);
    const data = { type: TYPE.DATA, channel: 1, stream: 1, body: new Uint8Array(1) };
    expect(peer.inbox.accept({ ...data, sequence: 7 })).toBe('deliver');
    expect(peer.inbox.accept({ ...data, sequence: 8 })).toMatchObject({
      detail: 'DATA over the stream credit',
    });
  });

  test('takes an END where its channel stands, and not before that', () => {
    const { peer, told, words } = joinedReceiver();
    peer.receive(frame({ type: TYPE.DATA, stream: 1, sequence: 0, body: new Uint8Array(2) }));
    peer.receive(frame({ type: TYPE.END, stream: 1, sequence: 2, body: body({}) }));
    expect([words, told]).toEqual([['DATA', 'END'], []]);
    peer.receive(frame({ type: TYPE.END, stream: 1, sequence: 1, body: body({}) }));
    expect(told).toMatchObject([{ code: 'protocol_error' }]);
  });

  test('drops frames for streams that have ended', () => {
    const { peer, told, words } = joinedReceiver();
    peer.close(1, true);
    peer.receive(frame({ type: TYPE.CANCEL, stream: 1, body: body({ reason: 'late' }) }));
    peer.receive(frame({ type: TYPE.WINDOW, stream: 1, sequence: 2, body: body({ limit: 1 }) }));
    peer.receive(frame({ type: TYPE.DATA, stream: 1, sequence: 3, body: new Uint8Array(1) }));
    peer.receive(frame({ type: TYPE.END, stream: 1, sequence: 3, body: body({}) }));
    expect([...words, ...told]).toEqual([]);
  });

  test('sends on after its socket or its owner threw while it sent', () => {
    const sent: number[] = [];
    const peer = new LinkPeer({
      socket: {
        send(message) {
          sent.push(message[1] as number);
          if (sent.length === 2) throw new Error('the socket failed');
        },
      },
      schemas: FROM_GATEWAY,
      channels: [0],
      peerOpens: true,
      now: () => 0,
      handlers: {
        control() {},
        data() {},
        gone() {
          throw new Error('the owner failed');
        },
        fault() {},
      },
    });
    peer.open(1);
    expect(() => peer.behind('EXIT', 1, 0, EXIT)).toThrow('the owner failed');
    const beat = { id: 1, reply: false, echo: null, running: 0 };
    expect(() => peer.control('HEARTBEAT', 0, beat)).toThrow('the socket failed');
    peer.control('HEARTBEAT', 0, beat);
    expect(sent).toEqual([TYPE.EXIT, TYPE.HEARTBEAT, TYPE.HEARTBEAT]);
  });

  test('reads any bytes without throwing', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 10 }), (messages) => {
        const { peer, told } = receiver();
        for (const message of messages) peer.receive(message);
        expect(told.length).toBeLessThanOrEqual(1);
      }),
    );
  });
});

/** A gateway and an agent that have begun streams 1 and 2; `pass` hands over all that is on its way. */
function joined() {
  const gateway = end(FROM_AGENT, [1, 2, 3], false);
  const agent = end(FROM_GATEWAY, [0], true);
  const pass = () => {
    for (let more = true; more; ) {
      more = false;
      for (const [from, to] of [
        [gateway, agent],
        [agent, gateway],
      ] as const)
        for (let item = from.wire.shift(); item; item = from.wire.shift()) {
          item.sent();
          to.peer.receive(item.message);
          more = true;
        }
    }
  };
  for (const stream of [1, 2]) {
    gateway.peer.open(stream);
    gateway.peer.control('START', stream, START);
  }
  pass();
  return { gateway, agent, pass };
}
