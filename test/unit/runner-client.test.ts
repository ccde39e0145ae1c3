import { Duplex, duplexPair } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRunnerClient, MAX_UNREAD_BYTES, type RunnerClient } from '../../agent/runner/client.ts';
import {
  createExecutionStream,
  type ExecutionHandlers,
  freshCheckpoint,
  MAX_FILES_CHANNEL_BYTES,
} from '../../agent/runner/execution-stream.ts';
import { createFrameReader } from '../../agent/runner/frame-stream.ts';
import type { RunnerStartBody } from '../../agent/runner/messages.ts';
import type { Failure } from '../../shared/errors.ts';
import { encodeFrame, type Frame, writeU32 } from '../../shared/frame.ts';
import { TYPE } from '../../shared/frame-type.ts';
import {
  MAX_CONTROL_BYTES,
  MAX_DATA_BYTES,
  MAX_RESULT_FILES,
  STREAM_WINDOW_BYTES,
} from '../../shared/limits.ts';
import { resultOf } from '../fakes/fake-runner.ts';

const MAX_OUTPUT = 1_000;
const START: RunnerStartBody = {
  language: 'python',
  last_line_interactive: true,
  traceparent: null,
  sizes: { manifest: 0, code: 0, stdin: null, files: 0 },
  limits: {
    timeout_ms: 1000,
    max_output_bytes: MAX_OUTPUT,
    memory_bytes: 1,
    cpu_seconds: 1,
    output_limit_bytes: null,
  },
  collect: true,
};
const READY = {
  ok: true,
  version: '0.5.0',
  python: '3.11.2',
  arch: 'x86_64',
  epoch: 1,
  features: { seccomp: true, landlock_abi: 4, namespaces: true, cgroup: null },
  missing: [],
  languages: { python: '3.11.2' },
  preloaded: [],
  preload_failed: [],
  base_memory_bytes: 1,
  running: [],
};
const EXITED = resultOf();
const SHA = 'a'.repeat(64);
const json = (body: unknown) => Buffer.from(JSON.stringify(body));

function onWire(frame: Frame, epoch = 1): Buffer {
  const prefix = new Uint8Array(8);
  writeU32(prefix, 0, frame.body.byteLength);
  writeU32(prefix, 4, epoch);
  return Buffer.concat([prefix, encodeFrame(frame)]);
}

type Heard = { name: string; args: unknown[] }[];
type Peer = {
  client: RunnerClient;
  end: Duplex;
  heard: Heard;
  /** What the client has written so far, as frames. */
  sent: Frame[];
  handlers: ExecutionHandlers;
  control(type: number, stream: number, body: unknown, sequence?: number): void;
  data(stream: number, channel: number, offset: number, size: number): void;
};

/** A runner that says what the test wants said. */
function createPeer(): Peer {
  const [near, end] = duplexPair();
  const heard: Heard = [];
  const sent: Frame[] = [];
  const note =
    (name: keyof ExecutionHandlers) =>
    (...args: unknown[]) =>
      void heard.push({ name, args });
  const handlers: ExecutionHandlers = {
    started: note('started'),
    data: note('data'),
    fileEnd: note('fileEnd'),
    exit: note('exit'),
    inputWindow: note('inputWindow'),
    lost: note('lost'),
  };
  const reader = createFrameReader(1, (frame) => {
    sent.push(frame);
    return undefined;
  });
  end.on('data', (chunk: Buffer) => expect(reader.push(chunk)).toBeUndefined());
  end.on('error', () => {});
  let counter = 0;
  return {
    client: createRunnerClient({ stream: near, epoch: 1 }),
    end,
    heard,
    sent,
    handlers,
    control(type, stream, body, sequence) {
      counter = sequence ?? counter + 1;
      end.write(onWire({ type, channel: 0, stream, sequence: counter, body: json(body) }));
    },
    data(stream, channel, offset, size) {
      end.write(
        onWire({ type: TYPE.DATA, channel, stream, sequence: offset, body: Buffer.alloc(size, 120) }),
      );
    },
  };
}

const names = (heard: Heard) => heard.map(({ name }) => name);
/** Until everything written so far has crossed the pair. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('a stream to a runner', () => {
  test('opens with ATTACH_RUNNER and is ready when READY came', async () => {
    const { client, control, sent } = createPeer();
    control(TYPE.READY, 0, READY);
    expect(await client.ready).toMatchObject({ ok: true, languages: { python: '3.11.2' } });
    expect(sent[0]).toMatchObject({ type: TYPE.ATTACH_RUNNER, stream: 0, sequence: 1 });
    expect(JSON.parse(Buffer.from(sent[0]?.body as Uint8Array).toString())).toEqual({
      epoch: 1,
      offsets: {},
    });
  });

  test('carries an execution from START to EXIT', async () => {
    const { client, control, data, handlers, heard, sent } = createPeer();
    const execution = client.start(7, START, handlers);
    execution.write(Buffer.from('code'));
    control(TYPE.STARTED, 7, {});
    data(7, 1, 0, 5);
    data(7, 3, 0, 9);
    await settle();
    execution.window(STREAM_WINDOW_BYTES + 14);
    control(TYPE.WINDOW, 7, { limit: STREAM_WINDOW_BYTES + 4 });
    await settle();
    expect(sent.map(({ type }) => type)).toEqual([TYPE.ATTACH_RUNNER, TYPE.START, TYPE.DATA, TYPE.WINDOW]);
    expect(sent[2]).toMatchObject({ channel: 0, stream: 7, sequence: 0 });
    expect(names(heard)).toEqual(['started', 'data', 'data', 'inputWindow']);
  });

  test('ends an execution with its files and its result', async () => {
    const { client, end, control, data, handlers, heard } = createPeer();
    client.start(1, START, handlers);
    control(TYPE.STARTED, 1, {});
    data(1, 3, 0, 9);
    const file = { path: 'a', size: 9, sha256: SHA };
    end.write(onWire({ type: TYPE.END, channel: 3, stream: 1, sequence: 9, body: json(file) }));
    control(TYPE.EXIT, 1, EXITED);
    await settle();
    expect(heard.at(-2)).toEqual({ name: 'fileEnd', args: [file] });
    expect(heard.at(-1)).toEqual({ name: 'exit', args: [EXITED] });
  });

  test('ends alone where a frame brings a fault of ours to light', async () => {
    const { client, control, data, handlers, heard } = createPeer();
    client.start(1, START, {
      ...handlers,
      data() {
        throw new Error('ours');
      },
    });
    control(TYPE.STARTED, 1, {});
    data(1, 1, 0, 5);
    expect(await client.closed).toMatchObject({ code: 'internal', cause: { message: 'ours' } });
    expect(names(heard)).toEqual(['started', 'lost']);
  });

  test('sends START and the first input in one write', async () => {
    const [near, end] = duplexPair();
    const writes: number[] = [];
    const writev = near._writev?.bind(near);
    near._write = (chunk: Buffer, _encoding, done) => {
      writes.push(chunk.byteLength);
      done();
    };
    near._writev = (chunks, done) => {
      writes.push(chunks.length);
      done();
    };
    expect(writev).toBeUndefined();
    const client = createRunnerClient({ stream: near, epoch: 1 });
    await settle();
    writes.length = 0;
    client.start(1, START, createPeer().handlers).write(Buffer.alloc(100_000));
    await settle();
    expect(writes).toHaveLength(1);
    end.destroy();
  });

  test.each<[string, (peer: Peer) => void]>([
    ['DATA', (peer) => peer.data(1, 1, 12, 1)],
    ['WINDOW', (peer) => peer.control(TYPE.WINDOW, 1, { limit: STREAM_WINDOW_BYTES + 1 })],
    ['EXIT', (peer) => peer.control(TYPE.EXIT, 1, EXITED)],
  ])('ends by %s behind an EXIT, which stands: nothing bounds what came there', async (_name, say) => {
    const peer = createPeer();
    peer.client.start(1, START, peer.handlers);
    peer.control(TYPE.STARTED, 1, {});
    peer.control(TYPE.EXIT, 1, EXITED);
    say(peer);
    expect(await peer.client.closed).toMatchObject({
      code: 'protocol_error',
      detail: 'The runner broke its protocol: stream 1 has ended.',
    });
    expect(names(peer.heard)).toEqual(['started', 'exit']);
  });

  test('that ends leaves every execution lost, and none of them guessed', async () => {
    const { client, control, end, handlers, heard } = createPeer();
    client.start(1, START, handlers);
    client.start(2, START, handlers);
    control(TYPE.STARTED, 1, {});
    await settle();
    end.end();
    expect(await client.closed).toMatchObject({ code: 'sandbox_lost' });
    const reasons = heard
      .filter(({ name }) => name === 'lost')
      .map(({ args }) => (args[0] as Failure).started);
    expect(reasons).toEqual(['yes', 'unknown']);
    await expect(client.ready).rejects.toMatchObject({ code: 'sandbox_lost' });
    await expect(client.ping(AbortSignal.timeout(5000))).rejects.toMatchObject({ code: 'sandbox_lost' });
    expect(() => client.start(3, START, handlers)).toThrow('sandbox_lost');
  });

  test('goes on with an execution of the epoch before', async () => {
    const first = createPeer();
    const execution = first.client.start(4, START, first.handlers);
    execution.write(Buffer.from('abc'));
    first.control(TYPE.STARTED, 4, {});
    first.data(4, 1, 0, 10);
    await settle();
    first.client.close();
    expect(names(first.heard)).toEqual(['started', 'data', 'lost']);

    const [near, end] = duplexPair();
    const sent: Frame[] = [];
    const reader = createFrameReader(2, (frame) => {
      sent.push(frame);
      return undefined;
    });
    end.on('data', (chunk: Buffer) => reader.push(chunk));
    const resume = [{ checkpoint: execution.checkpoint(), handlers: first.handlers }];
    const second = createRunnerClient({ stream: near, epoch: 2, resume });
    const more = { type: TYPE.DATA, channel: 1, stream: 4, sequence: 10, body: Buffer.from('more') };
    end.write(onWire(more, 2));
    await settle();
    expect(JSON.parse(Buffer.from(sent[0]?.body as Uint8Array).toString())).toEqual({
      epoch: 2,
      offsets: { 4: { 1: 10, 2: 0, 3: 0, started: true, files: 0 } },
    });
    expect(first.heard.at(-1)).toMatchObject({ name: 'data', args: [1, 10, Buffer.from('more')] });
    expect(second.resumed).toHaveLength(1);
  });

  test('honours the signal of a PING and still takes its answer', async () => {
    const { client, control } = createPeer();
    const abort = new AbortController();
    const first = client.ping(abort.signal);
    abort.abort(new Error('enough'));
    await expect(first).rejects.toThrow('enough');
    const second = client.ping(AbortSignal.timeout(5000));
    control(TYPE.PONG, 0, { id: 1, processes: 0 });
    control(TYPE.PONG, 0, { id: 2, processes: 0 });
    expect(await second).toMatchObject({ id: 2 });
  });

  test('is not asked for a RESET while something runs', async () => {
    const { client, control, handlers } = createPeer();
    client.start(1, START, handlers);
    await expect(client.reset(AbortSignal.timeout(5000))).rejects.toMatchObject({ code: 'busy' });
    control(TYPE.EXIT, 1, { result: null, failure: { code: 'busy', detail: 'x', started: 'no' } });
    await settle();
    const done = client.reset(AbortSignal.timeout(5000));
    control(TYPE.RESET_DONE, 0, { ok: false, leftovers: ['/tmp/x'] });
    expect(await done).toEqual({ ok: false, leftovers: ['/tmp/x'] });
  });

  test('refuses input past the window instead of sending it', () => {
    const { client, handlers } = createPeer();
    const execution = client.start(1, START, handlers);
    execution.write(Buffer.alloc(STREAM_WINDOW_BYTES));
    expect(() => execution.write(Buffer.alloc(1))).toThrow(RangeError);
  });
});

test('a runner sends as many bytes of files as it may collect, and not one more', () => {
  const at = freshCheckpoint(1, MAX_OUTPUT);
  const offsets = { 1: 0, 2: 0, 3: MAX_FILES_CHANNEL_BYTES - 1 };
  const silent = { started() {}, data() {}, fileEnd() {}, inputWindow() {}, exit() {}, lost() {} };
  const running = { ...at, started: true, offsets, limit: 2 * MAX_FILES_CHANNEL_BYTES };
  const stream = createExecutionStream(running, silent);
  expect(stream.onData(3, MAX_FILES_CHANNEL_BYTES - 1, new Uint8Array(1))).toBeUndefined();
  expect(stream.onData(3, MAX_FILES_CHANNEL_BYTES, new Uint8Array(1))).toMatchObject({
    detail: 'more bytes of files than were asked for',
  });
});

test('a runner that does not read loses the stream, and not the agent its memory', async () => {
  let queued = 0;
  // Takes what it is sent and never asks for more.
  const stream = new Duplex({ read() {}, write() {}, writev() {} });
  const client = createRunnerClient({ stream, epoch: 1 });
  const silent = { started() {}, data() {}, fileEnd() {}, inputWindow() {}, exit() {}, lost() {} };
  const execution = client.start(1, START, silent);
  for (let n = 0; n < 600_000; n += 1) {
    execution.signal(2);
    queued = Math.max(queued, stream.writableLength);
  }
  expect(queued).toBeLessThan(MAX_UNREAD_BYTES + MAX_CONTROL_BYTES);
  expect(await client.closed).toMatchObject({ code: 'sandbox_lost' });
});

describe('a runner that breaks its protocol loses the stream', () => {
  const cases: [string, RegExp, (peer: Peer) => void][] = [
    [
      'a window that says nothing new',
      /does not rise/,
      (peer) => peer.control(TYPE.WINDOW, 1, { limit: STREAM_WINDOW_BYTES }),
    ],
    ['a type that nobody knows', /type 0x7f/, (peer) => peer.control(0x7f, 0, {})],
    ["a type that is the agent's", /type 0x44/, (peer) => peer.control(TYPE.RESET, 0, {})],
    ["a type of the link's", /type 0x5/, (peer) => peer.control(TYPE.HEARTBEAT, 0, {})],
    ['a control frame out of sequence', /frame 2 after 0/, (peer) => peer.control(TYPE.READY, 0, READY, 2)],
    [
      'READY twice',
      /READY came twice/,
      (peer) => {
        peer.control(TYPE.READY, 0, READY);
        peer.control(TYPE.READY, 0, READY);
      },
    ],
    [
      'READY of another epoch',
      /another epoch/,
      (peer) => peer.control(TYPE.READY, 0, { ...READY, epoch: 2 }),
    ],
    [
      'READY without a member',
      /READY has/,
      (peer) => peer.control(TYPE.READY, 0, { ...READY, running: undefined }),
    ],
    ['READY on an execution', /READY on stream 1/, (peer) => peer.control(TYPE.READY, 1, READY)],
    [
      'a number past 2^53',
      /READY has/,
      (peer) => peer.control(TYPE.READY, 0, { ...READY, base_memory_bytes: 2 ** 60 }),
    ],
    [
      'a name without end',
      /READY has/,
      (peer) => peer.control(TYPE.READY, 0, { ...READY, arch: 'x'.repeat(9_000) }),
    ],
    ['PONG without PING', /without its PING/, (peer) => peer.control(TYPE.PONG, 0, { id: 1, processes: 0 })],
    [
      'RESET_DONE without RESET',
      /without RESET/,
      (peer) => peer.control(TYPE.RESET_DONE, 0, { ok: true, leftovers: [] }),
    ],
    ['a stream that never was', /stream 2 never was/, (peer) => peer.control(TYPE.STARTED, 2, {})],
    ['DATA on stream 0', /stream 0 never was/, (peer) => peer.data(0, 1, 0, 1)],
    ['STARTED twice', /STARTED came twice/, (peer) => started(peer).control(TYPE.STARTED, 1, {})],
    ['DATA before STARTED', /DATA before STARTED/, (peer) => peer.data(1, 1, 0, 1)],
    ['DATA with a gap', /at offset 1/, (peer) => started(peer).data(1, 1, 1, 1)],
    ['DATA on the input channel', /DATA on channel 0/, (peer) => started(peer).data(1, 0, 0, 1)],
    ['DATA on a channel that is none', /DATA on channel 4/, (peer) => started(peer).data(1, 4, 0, 1)],
    ['DATA without bytes', /at least one byte/, (peer) => started(peer).data(1, 1, 0, 0)],
    ['DATA over its bound', /over its bound/, (peer) => started(peer).data(1, 1, 0, MAX_DATA_BYTES + 1)],
    [
      'a control frame over its bound',
      /over its bound/,
      (peer) => peer.control(TYPE.READY, 0, { x: 'x'.repeat(MAX_CONTROL_BYTES) }),
    ],
    [
      'more than the window',
      /window allows/,
      (peer) => {
        started(peer);
        for (let at = 0; at < STREAM_WINDOW_BYTES; at += MAX_DATA_BYTES) peer.data(1, 3, at, MAX_DATA_BYTES);
        peer.data(1, 2, 0, 1);
      },
    ],
    ['more output than was asked for', /more output/, (peer) => started(peer).data(1, 2, 0, MAX_OUTPUT + 1)],
    [
      'a window that falls',
      /window fell/,
      (peer) => peer.control(TYPE.WINDOW, 1, { limit: STREAM_WINDOW_BYTES - 1 }),
    ],
    [
      'a window for nothing taken',
      /never taken/,
      (peer) => peer.control(TYPE.WINDOW, 1, { limit: STREAM_WINDOW_BYTES + 1 }),
    ],
    ['a negative window', /WINDOW has/, (peer) => peer.control(TYPE.WINDOW, 1, { limit: -1 })],
    ['END of a file of another size', /another size/, (peer) => fileEnd(started(peer), { size: 1 })],
    ['END with a path of 5,000', /END has/, (peer) => fileEnd(started(peer), { path: 'a'.repeat(5_000) })],
    ['END with a digest that is none', /END has/, (peer) => fileEnd(started(peer), { sha256: 'x' })],
    ['END out of place', /end of its channel/, (peer) => fileEnd(started(peer), {}, 3, 1)],
    ['END on stdout', /END on channel 1/, (peer) => fileEnd(started(peer), {}, 1)],
    ['END before STARTED', /END before STARTED/, (peer) => fileEnd(peer, {})],
    [
      'one file more than was asked for',
      /more files/,
      (peer) => {
        started(peer);
        for (let n = 0; n <= MAX_RESULT_FILES; n += 1) fileEnd(peer, { path: `${n}` });
      },
    ],
    ['EXIT with a result but no STARTED', /result without/, (peer) => peer.control(TYPE.EXIT, 1, EXITED)],
    [
      'EXIT that denies STARTED',
      /denies STARTED/,
      (peer) => started(peer).control(TYPE.EXIT, 1, failed('no')),
    ],
    [
      'EXIT with neither',
      /EXIT has/,
      (peer) => started(peer).control(TYPE.EXIT, 1, { result: null, failure: null }),
    ],
    [
      'EXIT with both',
      /EXIT has/,
      (peer) => started(peer).control(TYPE.EXIT, 1, { ...failed('yes'), result: EXITED.result }),
    ],
    [
      'EXIT that timed out with code 0',
      /go with the outcome/,
      (peer) => exits(started(peer), { outcome: 'timed_out', timed_out: true }),
    ],
    [
      'EXIT that timed out and does not say so',
      /timed_out/,
      (peer) => exits(started(peer), { outcome: 'timed_out' }),
    ],
    [
      'EXIT that exited without a code',
      /go with the outcome/,
      (peer) => exits(started(peer), { exit_code: null }),
    ],
    ['EXIT with code 256', /EXIT has/, (peer) => exits(started(peer), { exit_code: 256 })],
    ['EXIT with an outcome that is none', /EXIT has/, (peer) => exits(started(peer), { outcome: 'fine' })],
    [
      'EXIT that counts output that never came',
      /counts 1 .* of which 0/,
      (peer) => exits(started(peer), { stdout_bytes: 1 }),
    ],
    [
      'EXIT that counts less than came',
      /counts 1 .* of which 2/,
      (peer) => {
        started(peer).data(1, 1, 0, 2);
        exits(peer, { stdout_bytes: 1, stdout_truncated: true });
      },
    ],
    [
      'EXIT inside a file',
      /inside a file/,
      (peer) => {
        started(peer).data(1, 3, 0, 2);
        exits(peer, {});
      },
    ],
    [
      'JSON that is not JSON',
      /not JSON/,
      ({ end }) => end.write(onWire({ ...plain, body: Buffer.from('{') })),
    ],
    [
      'JSON that is not UTF-8',
      /not JSON in UTF-8/,
      ({ end }) => end.write(onWire({ ...plain, body: Buffer.from([0x22, 0xff, 0x22]) })),
    ],
    ['another epoch', /of epoch 2/, ({ end }) => end.write(onWire(plain, 2))],
    ['another version', /version 2/, ({ end }) => end.write(onWire(plain).fill(2, 8, 9))],
    ['flags', /flags/, ({ end }) => end.write(onWire(plain).fill(1, 10, 11))],
    ['a channel on a control frame', /channel 1/, ({ end }) => end.write(onWire({ ...plain, channel: 1 }))],
    ['a length of 4 GB', /4294967295 bytes is over/, ({ end }) => end.write(Buffer.alloc(24, 0xff))],
    [
      'bytes that are no frame',
      /over its bound/,
      ({ end }) => end.write(Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')),
    ],
  ];

  test.each(cases)('%s', async (_name, detail, misbehave) => {
    const peer = createPeer();
    peer.client.start(1, START, peer.handlers);
    misbehave(peer);
    const reason = await peer.client.closed;
    expect(reason.detail).toMatch(detail);
    expect(reason.code).toBe(/over its bound|is over/.test(reason.detail) ? 'too_large' : 'protocol_error');
    expect(peer.heard.at(-1)?.name).toBe('lost');
    expect(names(peer.heard)).not.toContain('exit');
  });

  const plain: Frame = { type: TYPE.READY, channel: 0, stream: 0, sequence: 1, body: json(READY) };

  function started(peer: Peer): Peer {
    peer.control(TYPE.STARTED, 1, {});
    return peer;
  }

  function fileEnd({ end }: Peer, members: object, channel = 3, sequence = 0): void {
    const body = json({ path: 'a', size: 0, sha256: SHA, ...members });
    end.write(onWire({ type: TYPE.END, channel, stream: 1, sequence, body }));
  }

  function exits(peer: Peer, members: object): void {
    peer.control(TYPE.EXIT, 1, { ...EXITED, result: { ...EXITED.result, ...members } });
  }

  function failed(said: string) {
    return { result: null, failure: { code: 'runner_error', detail: 'x', started: said } };
  }
});

describe('frames', () => {
  const frames = fc.array(
    fc.record({
      type: fc.constantFrom(TYPE.DATA, TYPE.READY, TYPE.EXIT),
      channel: fc.integer({ min: 0, max: 255 }),
      stream: fc.integer({ min: 0, max: 0xffff_ffff }),
      sequence: fc.maxSafeNat(),
      body: fc.uint8Array({ minLength: 1, maxLength: 300 }),
    }),
    { maxLength: 12 },
  );

  test('are the same however the bytes are cut', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1 }), (sent, cuts) => {
        const wire = Buffer.concat(sent.map((frame) => onWire(frame, 9)));
        const read: Frame[] = [];
        const reader = createFrameReader(9, (frame) => {
          read.push({ ...frame, body: Uint8Array.from(frame.body) });
          return undefined;
        });
        for (let at = 0, n = 0; at < wire.byteLength; n += 1) {
          const size = cuts[n % cuts.length] as number;
          expect(reader.push(wire.subarray(at, at + size))).toBeUndefined();
          at += size;
        }
        expect(read).toEqual(sent);
      }),
    );
  });

  test('that are noise end in a fault or in silence, and never throw', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 20 }), (chunks) => {
        const reader = createFrameReader(1, () => undefined);
        for (const chunk of chunks) if (reader.push(chunk)) return;
      }),
    );
  });

  test('whose body lies in one chunk are not copied', () => {
    const wire = onWire({ type: TYPE.DATA, channel: 1, stream: 1, sequence: 0, body: Buffer.from('body') });
    const reader = createFrameReader(1, ({ body }) => {
      expect(body.buffer).toBe(wire.buffer);
      return undefined;
    });
    expect(reader.push(wire)).toBeUndefined();
  });
});
