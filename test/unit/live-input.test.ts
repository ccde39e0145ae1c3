import { expect, test } from 'vitest';
import { LiveInput, type WriterPort } from '../../agent/executions/live-input.ts';
import { createExecutionStream, freshCheckpoint } from '../../agent/runner/execution-stream.ts';
import type { FrameWriter } from '../../agent/runner/frame-stream.ts';
import { createRunnerExecution } from '../../agent/runner/runner-execution.ts';
import { MAX_KNOWN_WRITERS, MAX_WRITERS, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

function listen() {
  const heard = { taken: -1, consumed: 0, over: '' };
  const port: WriterPort = {
    taking: (taken) => {
      heard.taken = taken;
    },
    consumed: (count) => {
      heard.consumed += count;
    },
    inputOver: ({ taken, why }) => {
      heard.over = `${why} ${taken}`;
    },
  };
  return { heard, port };
}

/** A program behind a runner, and what has reached it. */
function program(announced = 0) {
  const live = new LiveInput(announced);
  const got = { text: '', ended: 0, bytes: 0, writes: 0, size: '' };
  const sink = {
    write(piece: Uint8Array) {
      got.writes += 1;
      got.text += new TextDecoder().decode(piece);
      got.bytes += piece.byteLength;
    },
    endInput() {
      got.ended += 1;
    },
    resize(rows: number, columns: number) {
      got.size = `${rows}x${columns}`;
    },
  };
  return { live, got, sink };
}

test('input waits for the program to begin, and reaches it in the order in which it came', () => {
  const { live, got, sink } = program(100);
  const a = live.open('a', listen().port);
  const b = live.open('b', listen().port);
  a.data(bytes('one '));
  b.data(bytes('two '));
  expect(got.text).toBe('');
  live.begin(sink);
  a.data(bytes('three'));
  expect(got.text).toBe('one two three');
});

test('an end that came before the program began is told it, also where nothing came before the end', () => {
  for (const text of ['', 'said']) {
    const { live, got, sink } = program();
    const writer = live.open('a', listen().port);
    writer.data(bytes(text));
    writer.end();
    live.begin(sink);
    expect([got.text, got.ended]).toEqual([text, 1]);
  }
});

test('MAX_WRITERS may write at once, and one more is refused', () => {
  const { live } = program();
  const writers = Array.from({ length: MAX_WRITERS }, (_, index) => live.open(`w${index}`, listen().port));
  expect(() => live.open('more', listen().port)).toThrow(/rate_limited/);
  // One that comes again has its place.
  live.open('w1', listen().port);
  expect(() => live.open('more', listen().port)).toThrow(/rate_limited/);
  writers[0]?.leave('detached');
  live.open('more', listen().port);
});

test('nobody begins to write while more than a window waits', () => {
  const { live, sink } = program();
  live.begin(sink);
  const first = live.open('a', listen().port);
  first.data(new Uint8Array(STREAM_WINDOW_BYTES));
  const second = live.open('b', listen().port);
  second.data(new Uint8Array(1));
  expect(() => live.open('c', listen().port)).toThrow(/rate_limited/);
  live.window(STREAM_WINDOW_BYTES + 1);
  live.open('c', listen().port);
});

test('a writer gets credit for what the program took, and for no more', () => {
  const { live, got, sink } = program(10);
  live.begin(sink);
  const { heard, port } = listen();
  const writer = live.open('a', port);
  writer.data(new Uint8Array(STREAM_WINDOW_BYTES));
  expect(got.bytes).toBe(STREAM_WINDOW_BYTES - 10);
  expect(heard.consumed).toBe(0);
  live.window(2 * STREAM_WINDOW_BYTES + 9);
  expect(got.bytes).toBe(STREAM_WINDOW_BYTES);
  expect(heard.consumed).toBe(STREAM_WINDOW_BYTES - 1);
  live.window(2 * STREAM_WINDOW_BYTES + 10);
  expect(heard.consumed).toBe(STREAM_WINDOW_BYTES);
});

test('writers that take turns byte by byte cost no more than their bytes, and each has all its credit', () => {
  const { live, got, sink } = program();
  const [a, b] = [listen(), listen()];
  const writers = [live.open('a', a.port), live.open('b', b.port)];
  const each = STREAM_WINDOW_BYTES / 2;
  for (let count = 0; count < each; count += 1) for (const writer of writers) writer.data(Uint8Array.of(120));
  live.begin(sink);
  expect([got.bytes, got.writes]).toEqual([STREAM_WINDOW_BYTES, 8]);
  live.window(STREAM_WINDOW_BYTES + 3);
  expect(a.heard.consumed + b.heard.consumed).toBe(3);
  live.window(STREAM_WINDOW_BYTES + 6);
  // In turns: nobody waits until the other is credited whole.
  expect([a.heard.consumed, b.heard.consumed]).toEqual([3, 3]);
  live.window(2 * STREAM_WINDOW_BYTES);
  expect([a.heard.consumed, b.heard.consumed]).toEqual([each, each]);
});

test('what a writer that left had sent is taken before others get credit', () => {
  const { live, sink } = program();
  live.begin(sink);
  const gone = listen();
  const writer = live.open('a', gone.port);
  writer.data(bytes('abc'));
  writer.leave('detached');
  const { heard, port } = listen();
  live.open('b', port).data(bytes('de'));
  live.window(STREAM_WINDOW_BYTES + 4);
  expect([gone.heard.consumed, heard.consumed]).toEqual([0, 1]);
  live.window(STREAM_WINDOW_BYTES + 5);
  expect(heard.consumed).toBe(2);
});

test('a new stream to the runner gets what the old one lost, once', () => {
  const { live, got, sink } = program(10);
  live.begin(sink);
  const writer = live.open('a', listen().port);
  writer.data(bytes('abc'));
  writer.data(bytes('def'));
  writer.end();
  expect([got.text, got.ended]).toEqual(['abcdef', 1]);
  live.resume(10 + 4);
  expect([got.text, got.ended]).toEqual(['abcdefef', 2]);
  live.resume(10 + 6);
  expect([got.text, got.ended]).toEqual(['abcdefef', 3]);
});

test('nothing is out of place where the word on a window was lost with a stream, and more waits than fits', () => {
  const live = new LiveInput(0);
  const frames: { at: number; body: Uint8Array }[] = [];
  const writer: FrameWriter = { send: ({ sequence, body }) => void frames.push({ at: sequence, body }) };
  const handlers = {
    started() {},
    data() {},
    fileEnd() {},
    exit() {},
    lost() {},
    inputWindow: (limit: number) => live.window(limit),
    inputResumed: (received: number) => live.resume(received),
  };
  const open = (checkpoint: ReturnType<typeof freshCheckpoint>) => {
    const stream = createExecutionStream(checkpoint, handlers);
    return {
      stream,
      execution: createRunnerExecution(
        stream,
        writer,
        () => {},
        () => false,
      ),
    };
  };
  let { execution } = open(freshCheckpoint(1, 1_000));
  live.begin({
    write: (piece) => execution.write(piece),
    endInput: () => execution.endInput(),
    resize() {},
  });
  const whole = Uint8Array.from({ length: STREAM_WINDOW_BYTES + 1_000 }, (_, at) => at % 251);
  live.open('a', listen().port).data(whole.subarray(0, STREAM_WINDOW_BYTES));
  live.open('b', listen().port).data(whole.subarray(STREAM_WINDOW_BYTES));
  expect(frames.at(-1)?.at).toBeLessThan(STREAM_WINDOW_BYTES);

  frames.length = 0;
  const received = 200_000;
  const second = open({ ...execution.checkpoint(), inputUnknown: true });
  execution = second.execution;
  const window = { limit: STREAM_WINDOW_BYTES + 131_072, received };
  expect(second.stream.onWindow(window.limit, window.received)).toBeUndefined();
  let at = received;
  for (const frame of frames) {
    expect(frame.at).toBe(at);
    expect(Buffer.compare(frame.body, whole.subarray(at, at + frame.body.byteLength))).toBe(0);
    at += frame.body.byteLength;
  }
  expect(at).toBe(whole.byteLength);
});

test('an end stays behind what the runner has no room for yet', () => {
  const { live, got, sink } = program(10);
  live.begin(sink);
  const writer = live.open('a', listen().port);
  writer.data(new Uint8Array(STREAM_WINDOW_BYTES));
  writer.end();
  expect([got.bytes, got.ended]).toEqual([STREAM_WINDOW_BYTES - 10, 0]);
  live.window(STREAM_WINDOW_BYTES + 9);
  expect([got.bytes, got.ended]).toEqual([STREAM_WINDOW_BYTES - 1, 0]);
  live.window(STREAM_WINDOW_BYTES + 10);
  expect([got.bytes, got.ended]).toEqual([STREAM_WINDOW_BYTES, 1]);
});

test('who writes again is told what came before, and takes the place of the stream before', () => {
  const { live, got, sink } = program();
  live.begin(sink);
  const first = listen();
  const old = live.open('a', first.port);
  old.data(bytes('abc'));
  const second = listen();
  const next = live.open('a', second.port);
  expect([first.heard.over, second.heard.taken]).toEqual(['replaced 3', 3]);
  old.data(bytes('late'));
  old.end();
  old.leave('link_lost');
  next.data(bytes('def'));
  expect(got.text).toBe('abcdef');
  next.end({ keep: true });
  expect([second.heard.over, got.ended]).toEqual(['kept 6', 0]);
});

test('who closed stdin and had no answer is answered when it comes again', () => {
  const { live, got, sink } = program();
  live.begin(sink);
  const writer = live.open('a', listen().port);
  writer.data(bytes('all'));
  writer.end();
  const again = listen();
  live.open('a', again.port).end();
  expect([again.heard.taken, again.heard.over]).toEqual([3, 'closed 3']);
  expect([got.text, got.ended]).toEqual(['all', 1]);
});

test('a closed stdin and a program that ended take nobody in', () => {
  const { live, sink } = program();
  live.begin(sink);
  const other = listen();
  live.open('b', other.port).data(bytes('x'));
  live.open('a', listen().port).end();
  expect(() => live.open('c', listen().port)).toThrow(/conflict/);
  live.over();
  expect(other.heard.over).toBe('ended 1');
  expect(() => live.open('c', listen().port)).toThrow(/not_found/);
});

test('what comes behind an end that another set is not taken as if it had a reader', () => {
  const { live, got, sink } = program();
  live.begin(sink);
  const [late, whole] = [listen(), listen()];
  const writers = [live.open('late', late.port), live.open('whole', whole.port)];
  for (const writer of writers) writer.data(bytes('x'));
  live.open('closes', listen().port).end();
  writers[0]?.data(bytes('behind'));
  writers[1]?.end({ keep: true });
  expect([late.heard.over, whole.heard.over]).toEqual(['ended 1', 'closed 1']);
  expect([got.text, got.ended]).toEqual(['xx', 1]);
});

test('the counts of MAX_KNOWN_WRITERS are kept, the oldest goes first', () => {
  const { live, sink } = program();
  live.begin(sink);
  const write = (name: string) => {
    const { heard, port } = listen();
    const writer = live.open(name, port);
    writer.data(bytes('x'));
    writer.end({ keep: true });
    return heard.taken;
  };
  for (let index = 0; index < MAX_KNOWN_WRITERS; index += 1) write(`w${index}`);
  expect(write('w0')).toBe(1);
  write('one more');
  expect(write('w1')).toBe(0);
  expect(write('w0')).toBe(2);
});

test('a terminal has the size that was told last, also one told before it began or while nobody heard', () => {
  const { live, got, sink } = program();
  const writer = live.open('a', listen().port);
  writer.resize?.({ rows: 10, columns: 20 });
  live.begin(sink);
  expect(got.size).toBe('10x20');
  writer.resize?.({ rows: 30, columns: 40 });
  got.size = '';
  live.resume(0);
  expect(got.size).toBe('30x40');
});
