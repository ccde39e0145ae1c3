import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { ExecutionOutput } from '../../agent/executions/execution-output.ts';
import { Retention } from '../../agent/executions/retention.ts';
import { REPLAY_BYTES, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { ExecutionResult, ExitBody } from '../../shared/messages.ts';
import { resultOf } from '../fakes/fake-runner.ts';
import { NOBODY } from '../fakes/session-bench.ts';

const FROM_START = { offsets: { 1: 0, 2: 0, 3: 0 }, files: 0, pending: 0 };
const TOLD = { max_output_bytes: 0, queue_ms: 0 };

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

/** The output of an execution that is over, of which whoever began it has had all. */
function ended(retention: Retention, bytes: number, how: Partial<ExecutionResult> = {}): ExecutionOutput {
  const first = { ...NOBODY, exit: (_: unknown, left: (how: 'left') => void) => left('left') };
  const output = new ExecutionOutput(first, { retention, onLimit() {}, onAwaited() {} });
  output.data(1, new Uint8Array(bytes));
  output.exit(resultOf({ stdout_bytes: bytes, ...how }));
  return output;
}

/** An execution that prints as much as it may. */
function printing() {
  let limit: number = STREAM_WINDOW_BYTES;
  const onLimit = (granted: number) => {
    limit = granted;
  };
  const output = new ExecutionOutput(NOBODY, { retention: new Retention(), onLimit, onAwaited() {} });
  const { log } = output;
  const print = (bytes: number) => {
    for (const end = log.total + bytes; log.total < end && !output.isHeld; )
      output.data(1, new Uint8Array(Math.min(32_768, end - log.total, limit - log.total)));
  };
  return { output, log, print };
}

/** One who attaches and takes nothing until told to. */
function slowReader(output: ExecutionOutput, reader: string, from = FROM_START) {
  const waits: ((how: 'left') => void)[] = [];
  const words: string[] = [];
  const port = {
    ...NOBODY,
    data: (_: number, bytes: Uint8Array) => void words.push(`DATA ${bytes.byteLength}`),
    started: () => void words.push('STARTED'),
    gap: (_: number, from: number, to: number) => void words.push(`GAP ${from} ${to}`),
    nack: (code: string) => void words.push(`NACK ${code}`),
    exit: (_: unknown, left: (how: 'left') => void) => void waits.push(left),
  };
  const { leave } = output.attach(port, { reader, ...from }, TOLD);
  return { words, leave, take: () => waits.splice(0).map((left) => left('left')).length };
}

test('output that somebody reads stays while there is no room, and no more is handed out until there is', () => {
  const retention = new Retention(10_000);
  const one = ended(retention, 8_000);
  const reader = slowReader(one, 'a');
  const other = ended(retention, 8_000);
  expect([retention.isFull, one.log.floor[1]]).toEqual([true, 0]);
  expect(slowReader(other, 'b').words).toEqual(['GAP 0 8000']);
  expect(slowReader(one, 'c').words).toEqual(['DATA 8000']);
  expect(reader.words).toEqual(['DATA 8000']);
});

test.for([
  { who: 'that sent START', reader: null },
  { who: 'that came later', reader: 'later' },
])('a reader $who and comes back after its time is held for when it leaves again', ({ reader }) => {
  const { output, log, print } = printing();
  output.first.leave('link_lost');
  print(2 * REPLAY_BYTES);
  expect(log.total).toBe(REPLAY_BYTES);
  output.giveUpWaiting();
  print(2 * REPLAY_BYTES);
  const had = log.total;
  expect(had).toBe(3 * REPLAY_BYTES);
  const from = { ...FROM_START, offsets: { 1: had, 2: 0, 3: 0 } };
  output.attach(NOBODY, { reader, ...from }, TOLD).leave('link_lost');
  print(2 * REPLAY_BYTES);
  expect(log.total - had).toBe(REPLAY_BYTES);
  output.giveUpWaiting();
  print(2 * REPLAY_BYTES);
  expect(log.total - had).toBe(3 * REPLAY_BYTES);
});

test('whoever lost its link holds the program back by what it has not acknowledged, and by nothing else', () => {
  const { output, log, print } = printing();
  print(100_000);
  output.first.window(STREAM_WINDOW_BYTES + 60_000);
  output.first.leave('link_lost');
  print(2 * REPLAY_BYTES);
  expect(log.total).toBe(60_000 + REPLAY_BYTES);
  // What came is there, acknowledged or not.
  const had = { reader: null, offsets: { 1: 80_000, 2: 0, 3: 0 }, files: 0 };
  output.attach(NOBODY, { ...had, pending: 15_000 }, TOLD).leave('link_lost');
  print(2 * REPLAY_BYTES);
  expect(log.total).toBe(80_000 + REPLAY_BYTES);
  const again = output.attach(NOBODY, { ...had, pending: 0 }, TOLD);
  again.window(STREAM_WINDOW_BYTES + 50_000);
  again.leave('link_lost');
  print(2 * REPLAY_BYTES);
  expect(log.total).toBe(130_000 + REPLAY_BYTES);
});

test('whoever lost its link is waited for as well while another reads, and then lets the program go on at once', () => {
  const { output, log, print } = printing();
  output.first.leave('link_lost');
  const other = output.attach(NOBODY, { reader: 'other', ...FROM_START }, TOLD);
  other.window(10 * REPLAY_BYTES);
  print(2 * REPLAY_BYTES);
  other.leave('detached');
  print(2 * REPLAY_BYTES);
  expect(log.total).toBe(REPLAY_BYTES);
  const all = { reader: null, offsets: { 1: REPLAY_BYTES, 2: 0, 3: 0 }, files: 0, pending: 0 };
  output.attach(NOBODY, all, TOLD);
  expect(output.granted).toBe(REPLAY_BYTES + STREAM_WINDOW_BYTES);
});

test('where there is no room, whoever lost its link as the last has all that it has not acknowledged', () => {
  const output = new ExecutionOutput(NOBODY, { retention: new Retention(0), onLimit() {}, onAwaited() {} });
  output.first.leave('detached');
  const reader = slowReader(output, 'a');
  for (let blocks = 0; blocks < 3; blocks += 1) output.data(1, new Uint8Array(10_000));
  reader.leave('link_lost');
  for (let blocks = 0; blocks < 3; blocks += 1) output.data(1, new Uint8Array(10_000));
  expect(slowReader(output, 'a').words).toEqual(Array.from({ length: 6 }, () => 'DATA 10000'));
});

test('a reader that comes again takes its own place, and nobody else’s', () => {
  const output = new ExecutionOutput(NOBODY, { retention: new Retention(), onLimit() {}, onAwaited() {} });
  const [one, two] = [slowReader(output, 'a'), slowReader(output, 'b')];
  const again = slowReader(output, 'b');
  output.data(1, new Uint8Array(1));
  expect([one, two, again].map(({ words }) => words)).toEqual([['DATA 1'], ['NACK replaced'], ['DATA 1']]);
});

test('what whoever comes back may be sent counts from where it stands on all channels, less what it still holds', () => {
  const { output } = printing();
  const offsets = { 1: 50_000, 2: 60_000, 3: 70_000 };
  for (const channel of [1, 2, 3] as const) output.data(channel, new Uint8Array(offsets[channel]));
  output.first.leave('link_lost');
  const { window } = output.attach(NOBODY, { reader: null, offsets, files: 0, pending: 30_000 }, TOLD);
  window(10 * STREAM_WINDOW_BYTES);
  expect(output.granted).toBe(150_000 + 10 * STREAM_WINDOW_BYTES);
});

test('whoever attaches is told that the program began once it has, and not before', () => {
  const output = new ExecutionOutput(NOBODY, { retention: new Retention(), onLimit() {}, onAwaited() {} });
  const early = slowReader(output, 'a');
  expect(early.words).toEqual([]);
  output.started();
  output.data(1, new Uint8Array(1));
  expect(early.words).toEqual(['STARTED', 'DATA 1']);
  expect(slowReader(output, 'b').words).toEqual(['STARTED', 'DATA 1']);
});

test('output that was acknowledged goes when the last who reads it has had it', () => {
  const retention = new Retention();
  const output = ended(retention, 8_000);
  const readers = [slowReader(output, 'a'), slowReader(output, 'b')];
  output.acknowledge();
  readers[0]?.take();
  expect(output.log.floor[1]).toBe(0);
  readers[1]?.take();
  expect([output.log.floor[1], retention.bytes]).toEqual([8_000, 0]);
});

test('a result that is acknowledged before there is one keeps its output', () => {
  const output = new ExecutionOutput(NOBODY, { retention: new Retention(), onLimit() {}, onAwaited() {} });
  output.data(1, new Uint8Array(8_000));
  output.acknowledge();
  output.first.leave('detached');
  output.exit(resultOf({ stdout_bytes: 8_000 }));
  const reader = slowReader(output, 'a');
  reader.take();
  expect([reader.words, slowReader(output, 'b').words]).toEqual([['DATA 8000'], ['DATA 8000']]);
});

test('a reader that had files of output that is gone is told the end, and not that there was no such file', () => {
  const retention = new Retention();
  const output = new ExecutionOutput(NOBODY, { retention, onLimit() {}, onAwaited() {} });
  output.fileEnd({ path: 'had', size: 0, sha256: '0'.repeat(64) });
  output.exit(resultOf());
  output.drop();
  const reader = slowReader(output, 'a', { ...FROM_START, files: 1 });
  expect(reader.take()).toBe(1);
  expect(() => slowReader(output, 'b', { ...FROM_START, files: 2 })).toThrow('invalid_request');
});

test.for([
  { sent: 3, documents: 0, omitted: 5 },
  { sent: 3, documents: 1, omitted: 4 },
  { sent: 0, documents: 1, omitted: 2 },
])(
  'of $sent files that are gone, $documents of them a document, $omitted are told with the two before',
  (files) => {
    const deps = { retention: new Retention(), documents: files.documents, onLimit() {}, onAwaited() {} };
    const output = new ExecutionOutput(NOBODY, deps);
    for (let file = 0; file < files.sent; file += 1)
      output.fileEnd({ path: `${file}`, size: 0, sha256: '0'.repeat(64) });
    output.exit(resultOf({ files_omitted_count: 2 }));
    output.drop();
    const exits: ExitBody[] = [];
    const from = { reader: 'a', ...FROM_START };
    output.attach({ ...NOBODY, exit: (body) => void exits.push(body) }, from, TOLD);
    expect(exits).toMatchObject([{ result: { files_omitted_count: files.omitted } }]);
  },
);

test('names of files that were left out count as output does, and go with it', () => {
  const retention = new Retention(40_000);
  const before = new ExecutionOutput(NOBODY, { retention, onLimit() {}, onAwaited() {} });
  const omitted = Array.from({ length: 100 }, () => ({ path: 'p'.repeat(100), reason: 'not_regular' }));
  before.exit(resultOf({ files_omitted: omitted, files_omitted_count: 120 }));
  before.acknowledge();
  expect(retention.bytes).toBeGreaterThan(100 * 100);
  const heard = (output: ExecutionOutput) => {
    const exits: ExitBody[] = [];
    output.attach(
      { ...NOBODY, exit: (body) => void exits.push(body) },
      { reader: null, ...FROM_START },
      TOLD,
    );
    return exits;
  };
  expect(heard(before)).toMatchObject([{ result: { files_omitted: omitted, files_omitted_count: 120 } }]);
  before.forget();
  expect(retention.bytes).toBe(0);
  const first = ended(retention, 0, { files_omitted: omitted, files_omitted_count: 120 });
  ended(retention, 8_000);
  expect(retention.bytes).toBeLessThan(40_000);
  expect(heard(first)).toMatchObject([{ result: { files_omitted: [], files_omitted_count: 120 } }]);
});

test('nothing holds on to an execution of which nobody can ask any more', async () => {
  const retention = new Retention();
  const forgotten = Array.from({ length: 10 }, () => {
    const output = ended(retention, 5);
    output.forget();
    return new WeakRef(output);
  });
  // What this turn has seen stays to its end.
  await new Promise((resolve) => setImmediate(resolve));
  collect();
  expect(forgotten.filter((each) => each.deref())).toEqual([]);
  expect(retention.bytes).toBe(0);
});

test('an execution that is over costs little more than what is told of it', () => {
  const used = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const retention = new Retention();
  const many = 5_000;
  const make = () => {
    const output = ended(retention, 5);
    output.acknowledge();
    return output;
  };
  make();
  const before = used();
  const kept = Array.from({ length: many }, make);
  expect((used() - before) / many).toBeLessThan(1_450);
  expect(kept.at(-1)?.isUntold).toBe(false);
});
