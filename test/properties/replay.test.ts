import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ExecutionOutput } from '../../agent/executions/execution-output.ts';
import type { ReaderHandle } from '../../agent/executions/output-readers.ts';
import { Retention } from '../../agent/executions/retention.ts';
import { StreamPort } from '../../agent/link/stream-port.ts';
import { MAX_DATA_BYTES, REPLAY_BYTES, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import { FROM_AGENT, FROM_GATEWAY } from '../../shared/messages.ts';
import { resultOf } from '../fakes/fake-runner.ts';

const SHA256 = '0'.repeat(64);
type Channel = 1 | 2 | 3;
type Gap = { channel: number; from: number; to: number };

/** One reader at a gateway's end: what it has, whatever links it came over. */
class Reader {
  readonly offsets = { 1: 0, 2: 0, 3: 0 };
  readonly bytes: Record<Channel, Uint8Array[]> = { 1: [], 2: [], 3: [] };
  readonly files: string[] = [];
  readonly gaps: Gap[] = [];
  ended = false;
  fault: string | undefined;
  #wire: { toGateway: Uint8Array[]; toAgent: Uint8Array[] } | undefined;
  #gateway: LinkPeer<typeof FROM_AGENT> | undefined;
  #agent: LinkPeer<typeof FROM_GATEWAY> | undefined;
  #handle: ReaderHandle | undefined;
  #waiting = 0;

  /** Bytes that its own reader has not taken. */
  get waiting(): number {
    return this.#waiting;
  }

  get isLinked(): boolean {
    return this.#wire !== undefined;
  }

  /** A link of its own, on which stream 1 is the execution's. */
  open(output: (port: StreamPort) => ReaderHandle): void {
    const wire = { toGateway: [] as Uint8Array[], toAgent: [] as Uint8Array[] };
    const gateway = new LinkPeer({
      socket: { send: carry(wire.toAgent) },
      schemas: FROM_AGENT,
      channels: [1, 2, 3],
      peerOpens: false,
      now: () => 0,
      handlers: {
        control: ({ name, body }) => this.#control(name, body),
        data: (_stream, channel, offset, bytes) => this.#data(channel as Channel, offset, bytes),
        fault: ({ detail }) => {
          this.fault = detail;
        },
      },
    });
    const agent: LinkPeer<typeof FROM_GATEWAY> = new LinkPeer({
      socket: { send: carry(wire.toGateway) },
      schemas: FROM_GATEWAY,
      channels: [0],
      peerOpens: true,
      now: () => 0,
      handlers: {
        control: () => {},
        data: () => {},
        room: () => this.#handle?.window(port.limit),
        fault: ({ detail }) => {
          this.fault = detail;
        },
      },
    });
    gateway.joined = true;
    agent.joined = true;
    gateway.reopen(1, this.offsets, this.#waiting);
    agent.reopen(1, this.offsets, this.#waiting);
    this.#wire = wire;
    this.#gateway = gateway;
    this.#agent = agent;
    const port = new StreamPort(agent, 1, () => {});
    this.#handle = output(port);
  }

  /** Moves so many messages each way. */
  move(messages: number): void {
    for (let moved = 0; moved < messages; moved += 1) {
      const down = this.#wire?.toGateway.shift();
      const up = this.#wire?.toAgent.shift();
      if (down) this.#gateway?.receive(down);
      if (up) this.#agent?.receive(up);
      if (!down && !up) return;
    }
  }

  /** Its own reader takes all that waits. */
  consume(): void {
    const taken = this.#waiting;
    this.#waiting = 0;
    if (taken > 0) this.#gateway?.consumed(1, taken);
  }

  /** What is on the wire is lost, both ways. */
  cut(): void {
    this.#wire = undefined;
    this.#handle?.leave('link_lost');
    this.#handle = undefined;
  }

  #data(channel: Channel, offset: number, bytes: Uint8Array): void {
    expect(offset).toBe(this.offsets[channel]);
    this.offsets[channel] += bytes.byteLength;
    this.bytes[channel].push(bytes.slice());
    this.#waiting += bytes.byteLength;
  }

  #control(name: string, body: object): void {
    if (name === 'END') this.files.push((body as { path: string }).path);
    else if (name === 'EXIT') this.ended = true;
    else if (name === 'REPLAY_GAP') {
      const gap = body as Gap;
      this.gaps.push(gap);
      this.offsets[gap.channel as Channel] = gap.to;
    }
  }
}

/** A socket that takes every message at once. */
function carry(messages: Uint8Array[]) {
  return (message: Uint8Array, sent: () => void): void => {
    messages.push(message);
    sent();
  };
}

type Step =
  | { do: 'print'; channel: Channel; size: number }
  | { do: 'file' }
  | { do: 'move'; messages: number }
  | { do: 'consume' | 'cut' | 'attach' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('print' as const),
      channel: fc.constantFrom<Channel>(1, 2, 3),
      size: fc.oneof(
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 4_000, max: 150_000 }),
        fc.constant(2 * REPLAY_BYTES),
      ),
    }),
  },
  { weight: 1, arbitrary: fc.constant<Step>({ do: 'file' }) },
  {
    weight: 4,
    arbitrary: fc.integer({ min: 1, max: 12 }).map((messages): Step => ({ do: 'move', messages })),
  },
  { weight: 2, arbitrary: fc.constant<Step>({ do: 'consume' }) },
  { weight: 2, arbitrary: fc.constant<Step>({ do: 'cut' }) },
  { weight: 3, arbitrary: fc.constant<Step>({ do: 'attach' }) },
);

/** What may be kept over all executions. */
const budget = fc.constantFrom(0, 50_000, 500_000, undefined);

/** A program that prints what it may, numbered so that no byte looks like its neighbour's. */
function createProgram(output: () => ExecutionOutput, limit: () => number) {
  const written: Record<Channel, number> = { 1: 0, 2: 0, 3: 0 };
  const files: string[] = [];
  return {
    written,
    files,
    print(channel: Channel, wanted: number) {
      for (let left = wanted; left > 0; left -= MAX_DATA_BYTES) {
        const room = limit() - written[1] - written[2] - written[3];
        const size = Math.min(left, room, MAX_DATA_BYTES);
        if (size <= 0) return;
        output().data(channel, bytesAt(channel, written[channel], size));
        written[channel] += size;
      }
    },
    file() {
      const path = `file-${files.length}`;
      files.push(path);
      output().fileEnd({ path, size: 0, sha256: SHA256 });
    },
  };
}

/** A prime, so that no window or frame is a multiple of it. */
const PERIOD = 251;
const PATTERNS = [1, 2, 3].map((channel) =>
  Buffer.from(Array.from({ length: PERIOD }, (_, index) => (index * 31 + channel * 97) % PERIOD)),
);

function bytesAt(channel: Channel, offset: number, size: number): Uint8Array {
  const skipped = offset % PERIOD;
  return Buffer.alloc(size + skipped, PATTERNS[channel - 1]).subarray(skipped);
}

function createBench(maxRetainedBytes?: number) {
  const retention = new Retention(maxRetainedBytes);
  const reader = new Reader();
  let limit = STREAM_WINDOW_BYTES;
  let output: ExecutionOutput | undefined;
  reader.open((port) => {
    const deps = {
      retention,
      onLimit: (raised: number) => {
        limit = raised;
      },
      onAwaited: () => {},
    };
    output = new ExecutionOutput(port, deps);
    return output.first;
  });
  const program = createProgram(
    () => output as ExecutionOutput,
    () => limit,
  );
  const told = { max_output_bytes: 1_000_000, queue_ms: 0 };
  const attach = (of: Reader, name: string | null) =>
    of.open((port) => {
      const from = { reader: name, offsets: { ...of.offsets }, files: of.files.length, pending: of.waiting };
      return (output as ExecutionOutput).attach(port, from, told);
    });
  return { retention, reader, program, attach, output: output as ExecutionOutput };
}

function readToEnd(reader: Reader): void {
  for (let turn = 0; turn < 10_000 && !reader.ended; turn += 1) {
    reader.move(50);
    reader.consume();
  }
}

function readUntilQuiet(reader: Reader): void {
  for (let had = -1; had !== reader.offsets[1] + reader.offsets[2] + reader.offsets[3]; ) {
    had = reader.offsets[1] + reader.offsets[2] + reader.offsets[3];
    reader.move(50);
    reader.consume();
    reader.move(50);
  }
}

/** Exact at its offsets, whatever was left out between them. */
function expectExact({ bytes, gaps, offsets }: Reader): void {
  for (const channel of [1, 2, 3] as const) {
    const lost = gaps.filter((gap) => gap.channel === channel);
    const got = Buffer.concat(bytes[channel]);
    const whole = Buffer.from(bytesAt(channel, 0, offsets[channel]));
    const kept: Buffer[] = [];
    let at = 0;
    for (const { from, to } of lost) {
      kept.push(whole.subarray(at, from));
      at = to;
    }
    kept.push(whole.subarray(at));
    expect(got.equals(Buffer.concat(kept))).toBe(true);
  }
}

test('whoever lost its link has every byte and every file in the end, once, wherever and however often it was cut', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), budget, (steps, maxBytes) => {
      const { reader, program, attach, output } = createBench(maxBytes);
      output.started();
      for (const each of steps) {
        if (each.do === 'print') program.print(each.channel, each.size);
        else if (each.do === 'file') program.file();
        else if (each.do === 'move') reader.move(each.messages);
        else if (each.do === 'consume') reader.consume();
        else if (each.do === 'cut' && reader.isLinked) reader.cut();
        else if (each.do === 'attach' && !reader.isLinked) attach(reader, null);
        const { length } = output.log;
        const unread = ([1, 2, 3] as const).map((channel) => length[channel] - reader.offsets[channel]);
        expect(Math.max(...unread)).toBeLessThanOrEqual(REPLAY_BYTES);
        expect(reader.waiting).toBeLessThanOrEqual(STREAM_WINDOW_BYTES);
      }
      // What is over goes first where there is no room: until then nothing may be missing.
      if (maxBytes !== undefined && !reader.isLinked) attach(reader, null);
      output.exit(resultOf());
      if (!reader.isLinked) attach(reader, null);
      readToEnd(reader);
      expect(reader).toMatchObject({ fault: undefined, gaps: [], ended: true, offsets: program.written });
      expect(reader.files).toEqual(program.files);
      expectExact(reader);
    }),
    { numRuns: 500 },
  );
});

test('whoever was given up and comes back is told what is gone, and from then on misses nothing again', () => {
  const givingUp = fc.oneof(
    { weight: 24, arbitrary: step },
    { weight: 1, arbitrary: fc.constant('give_up') },
  );
  fc.assert(
    fc.property(fc.array(givingUp, { maxLength: 80, size: 'max' }), (steps) => {
      const { reader, program, attach, output } = createBench();
      output.started();
      let isGivenUp = false;
      let gaps = 0;
      const comeBack = () => {
        attach(reader, null);
        if (isGivenUp) {
          readUntilQuiet(reader);
          gaps = reader.gaps.length;
        }
        isGivenUp = false;
      };
      for (const each of steps) {
        if (each === 'give_up') {
          if (reader.isLinked) continue;
          output.giveUpWaiting();
          isGivenUp = true;
        } else if (typeof each === 'string') continue;
        else if (each.do === 'print') program.print(each.channel, each.size);
        else if (each.do === 'file') program.file();
        else if (each.do === 'move') reader.move(each.messages);
        else if (each.do === 'consume') reader.consume();
        else if (each.do === 'cut' && reader.isLinked) reader.cut();
        else if (each.do === 'attach' && !reader.isLinked) comeBack();
        const { length, floor } = output.log;
        for (const channel of [1, 2, 3] as const) {
          if (!isGivenUp) expect(length[channel] - reader.offsets[channel]).toBeLessThanOrEqual(REPLAY_BYTES);
          expect(length[channel] - floor[channel]).toBeLessThanOrEqual(2 * REPLAY_BYTES);
        }
        expect(reader.gaps).toHaveLength(gaps);
      }
      output.exit(resultOf());
      if (!reader.isLinked) comeBack();
      readToEnd(reader);
      expect(reader).toMatchObject({ fault: undefined, ended: true, offsets: program.written });
      expect(reader.gaps).toHaveLength(gaps);
      expectExact(reader);
    }),
    { numRuns: 100 },
  );
});

test('whoever comes later has exact bytes or is told of each that is gone, however little may be kept', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), budget, fc.boolean(), (steps, maxBytes, late) => {
      const { reader, program, attach, output, retention } = createBench(maxBytes);
      output.started();
      const second = new Reader();
      for (const each of steps) {
        if (each.do === 'print') program.print(each.channel, each.size);
        else if (each.do === 'file') program.file();
        else if (each.do === 'move') reader.move(each.messages);
        else if (each.do === 'consume') reader.consume();
        else if (each.do === 'cut' && second.isLinked) second.cut();
        else if (each.do === 'attach' && !second.isLinked && !late) attach(second, 'second');
        second.move(2);
        second.consume();
      }
      output.exit(resultOf());
      if (second.isLinked) second.cut();
      attach(second, 'second');
      readToEnd(second);
      readToEnd(reader);
      expect(second).toMatchObject({ fault: undefined, ended: true, offsets: program.written });
      expectExact(second);
      expect(reader).toMatchObject({ fault: undefined, gaps: [], ended: true });
      expectExact(reader);
      output.forget();
      expect(retention.bytes).toBe(0);
    }),
    { numRuns: 500 },
  );
});
