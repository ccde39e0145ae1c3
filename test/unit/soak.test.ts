import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { MAX_RETAINED_BYTES } from '../../agent/executions/retention.ts';
import type { Seen } from '../soak/asking.ts';
import { readInstanceLives } from '../soak/instance-lives.ts';
import { BUSY_MS, judge, withGap } from '../soak/judge.ts';
import { readKeptOutput } from '../soak/kept-output.ts';
import { MAX_GROWTH_BYTES, watchMemory } from '../soak/memory-watch.ts';
import { type Outages, readOutages } from '../soak/outages.ts';
import { drawProgram, dueMs, type Kind, type Program, sha256 } from '../soak/programs.ts';
import { createRandom } from '../soak/random.ts';
import { planFaults, spanMs } from '../soak/schedule.ts';
import { STANDSTILL_MS, watchStandstills } from '../soak/standstill-watch.ts';
import { createTally } from '../soak/tally.ts';

const OPTIONS = { durationMs: 1_800_000, gateways: 2, agents: 3 };
const MAIN = fileURLToPath(new URL('../soak/main.ts', import.meta.url));
const faultsOf = (seed: string) => planFaults({ ...OPTIONS, seed });

describe('the schedule of a soak', () => {
  test('is the same for the same seed, and another for another', () => {
    expect(faultsOf('7')).toEqual(faultsOf('7'));
    expect(faultsOf('7')).not.toEqual(faultsOf('8'));
  });

  test('has every fault, in order, none over the one before', () => {
    const lanes = faultsOf('7');
    for (const { faults } of lanes)
      for (const [index, fault] of faults.slice(1).entries()) {
        const before = faults[index];
        if (before) expect(fault.atMs).toBeGreaterThanOrEqual(before.atMs + spanMs(before));
      }
    const kinds = new Set(lanes.flatMap(({ faults }) => faults.map((fault) => fault.do)));
    expect([...kinds].sort()).toEqual(
      ['corrupt', 'cut', 'drain', 'half_open', 'kill', 'refuse', 'slow', 'stall', 'stop'].sort(),
    );
  });

  test('never restarts the first gateway and the first agent, whose memory is watched', () => {
    for (const { place, faults } of faultsOf('7'))
      if (place === 'gateway-0' || place === 'agent-0')
        expect(new Set(faults.map((fault) => fault.do))).toEqual(new Set(['stop']));
  });
});

/** The first program of a kind that a seed draws. */
function programOf(kind: Kind): Program {
  for (let step = 0; ; step += 1) {
    const name = `x-${step}`;
    const program = drawProgram(createRandom(name), name);
    if (program.kind === kind) return program;
  }
}

test('the programs of a soak are the same for the same seed', () => {
  const draw = (name: string) => drawProgram(createRandom(name), name);
  expect(draw('1-2-3')).toEqual(draw('1-2-3'));
  expect(draw('1-2-3').request.code).not.toBe(draw('1-2-4').request.code);
});

describe('the judge of a soak', () => {
  const short = programOf('short');
  const { stdout, stderr } = short.output as NonNullable<Program['output']>;
  const about = { executionId: null, tookMs: 10, atMs: 5 };
  const result: Seen = {
    ...about,
    saw: 'result',
    exitCode: 0,
    outcome: 'exited',
    timedOut: false,
    stdout,
    stderr,
    cut: false,
  };
  const failure = (code: string, started: string, rest: object = {}): Seen =>
    ({ ...about, saw: 'failure', code, started, retryable: false, status: 502, detail: '', ...rest }) as Seen;
  const facts = { runs: 1, gatewayKilled: false, stoodStill: false };
  const verdict = (seen: Seen, known: Partial<typeof facts> = {}, program = short) =>
    judge(program, seen, { ...facts, ...known })?.miss;

  test('accepts what holds', () => {
    expect(verdict(result)).toBeUndefined();
    expect(verdict(failure('agent_lost', 'yes'))).toBeUndefined();
    expect(verdict(failure('maybe_started', 'unknown'), { runs: 0 })).toBeUndefined();
    expect(verdict(failure('no_agent', 'no', { status: 503, retryable: true }), { runs: 0 })).toBeUndefined();
    expect(verdict({ ...about, saw: 'break', cause: 'ECONNRESET' }, { gatewayKilled: true })).toBeUndefined();
    expect(verdict({ ...about, saw: 'nothing' }, { runs: 0 })).toBeUndefined();
    expect(verdict({ ...result, tookMs: dueMs(short) + BUSY_MS })).toBeUndefined();
  });

  test.for([
    ['a second run', result, { runs: 2 }, 'doubled'],
    ['bytes that are not its own', { ...result, stdout: sha256('other') }, {}, 'wrong_bytes'],
    ['another exit code', { ...result, exitCode: 1 }, {}, 'wrongly_reported'],
    ['a result of what never ran', result, { runs: 0 }, 'wrongly_reported'],
    ['a refusal of what ran', failure('no_agent', 'no', { status: 503 }), {}, 'wrongly_reported'],
    ['a code that says nothing', failure('internal', 'no', { status: 500 }), { runs: 0 }, 'wrongly_reported'],
    ['a loss that says it did not start', failure('agent_lost', 'no'), { runs: 0 }, 'wrongly_reported'],
    ['a connection that breaks', { ...about, saw: 'break', cause: 'ECONNRESET' }, {}, 'lost'],
    ['silence', { ...about, saw: 'silence' }, { runs: 0 }, 'lost'],
    [
      'an answer long past its time',
      { ...result, tookMs: dueMs(programOf('short')) + BUSY_MS + 1 },
      {},
      'late',
    ],
    ['what is no answer', { ...about, saw: 'nonsense', cause: '<html>' }, {}, 'wrongly_reported'],
  ] as const)('finds %s', ([, seen, known, miss]) => {
    expect(verdict(seen as Seen, known)).toBe(miss);
  });

  test('takes a program that its time ended for one that may have been held back, and no other', () => {
    const ended: Seen = { ...result, outcome: 'timed_out', timedOut: true, exitCode: null };
    expect(verdict({ ...ended, tookMs: short.request.timeout_ms ?? 0 })).toBeUndefined();
    expect(verdict({ ...ended, tookMs: (short.request.timeout_ms ?? 0) - 1 })).toBe('wrongly_reported');
  });

  test('calls nothing late while the machine stood still', () => {
    const tookMs = dueMs(short) + BUSY_MS + 1;
    expect(verdict({ ...result, tookMs }, { stoodStill: true })).toBeUndefined();
    expect(verdict({ ...about, saw: 'silence' }, { stoodStill: true })).toBeUndefined();
    expect(verdict({ ...result, stdout: 'other' }, { stoodStill: true })).toBe('wrong_bytes');
  });

  test('lets an answer under a key speak of its own request alone', () => {
    const refused = failure('no_agent', 'no', { status: 503 }) as Seen;
    expect(verdict(refused, { runs: 1 }, programOf('keyed'))).toBeUndefined();
    expect(verdict(refused, { runs: 1 }, programOf('short'))).toBe('wrongly_reported');
    expect(verdict(result, { runs: 2 }, programOf('short'))).toBe('doubled');
  });

  test('takes output that ends early, and says so to a caller with a key, for a gap, and for no other caller', () => {
    const early: Seen = { ...result, stdout: sha256('...'), cut: true };
    const keyed = programOf('keyed');
    expect(withGap(keyed, early)).toEqual({ ...about, saw: 'gap' });
    const others = [
      { ...early, cut: false },
      { ...result, ...keyed.output, cut: true },
      { ...early, exitCode: 1 },
      { ...early, outcome: 'timed_out' },
    ];
    for (const seen of others as Seen[]) expect(withGap(keyed, seen)).toBe(seen);
    expect(withGap(short, early)).toBe(early);
    expect(verdict(early)).toBe('wrong_bytes');
  });

  test('lets only a reader that stalls lose its connection', () => {
    const broke: Seen = { ...about, saw: 'break', cause: 'ECONNRESET' };
    expect(verdict(broke, {}, programOf('stalled_reader'))).toBeUndefined();
    expect(verdict(broke, {}, programOf('slow_reader'))).toBe('lost');
  });
});

test('a soak sees by its own clock when the machine stood still', () => {
  let nowMs = 0;
  const still = watchStandstills(() => nowMs);
  const tickAt = (atMs: number) => {
    nowMs = atMs;
    still.tick();
  };
  tickAt(STANDSTILL_MS);
  expect(still.overlaps(0, STANDSTILL_MS)).toBe(false);
  nowMs = 2 * STANDSTILL_MS + 1;
  expect(still.overlaps(STANDSTILL_MS + 10, nowMs)).toBe(true);
  expect(still.overlaps(0, STANDSTILL_MS - 1)).toBe(false);
  expect(still.line()).toContain(`1 times, ${STANDSTILL_MS + 1} ms at most`);
});

test('a soak counts what was asked again under a key apart', () => {
  const tally = createTally(() => {});
  const about = { executionId: null, tookMs: 1, atMs: 0 };
  tally.take('keyed', [
    { ...about, saw: 'nothing' },
    { ...about, saw: 'break', cause: 'ECONNRESET' },
  ]);
  expect(tally.asked).toBe(1);
  expect(tally.lines().join('\n')).toMatch(/^asked again by key 1 +\(break 1\)$/m);
});

test('a soak counts each miss and tells the first of them', () => {
  const written: object[] = [];
  const tally = createTally((missed) => written.push(missed));
  const missed = { miss: 'doubled', name: '1-2-3', why: 'ran 2 times' } as const;
  tally.miss(missed);
  tally.miss(missed);
  expect([tally.misses, tally.told, written]).toEqual([2, [missed, missed], [missed, missed]]);
  expect(tally.lines().join('\n')).toMatch(/^doubled +2$/m);
});

test.for([
  ['--minutes', '0'],
  ['--callers', 'many'],
  ['--agents', '1.5'],
])('a soak refuses %s %s with status 2', (options) => {
  const { status, stderr } = spawnSync(process.execPath, [MAIN, ...options], { encoding: 'utf8' });
  expect([status, stderr]).toEqual([2, expect.stringContaining('use a number above 0')]);
});

describe('what gateways logged', () => {
  const at = (second: number) => new Date(1_800_000_000_000 + second * 1_000).toISOString();
  const link = (second: number, event: string) => ({ time: at(second), event, instance: 'one' });
  const execution = (second: number, id: string, rest: object) => ({
    time: at(second),
    event: 'execution',
    execution_id: id,
    request_id: `r-${id}`,
    instance: 'one',
    total_ms: 10_000,
    ...rest,
  });
  const failed = (executionId: string, code: string) =>
    ({ executionId, requestId: null, code }) as Parameters<Outages['whyGivenUp']>[0];

  test('tells work that was given up too soon, or ran out of time for no reason, from what an outage explains', async () => {
    const logs = await mkdtemp(join(tmpdir(), 'podgate-outages-'));
    onTestFinished(() => rm(logs, { recursive: true }));
    const lines = [
      link(0, 'link_joined'),
      execution(5, 'never-away', { code: 'agent_lost' }),
      execution(9, 'on-time', { outcome: 'timed_out', code: null }),
      link(20, 'link_left'),
      execution(25, 'short', { code: 'maybe_started' }),
      link(30, 'link_joined'),
      execution(32, 'held-back', { outcome: 'timed_out', code: null }),
      link(60, 'link_left'),
      execution(65, 'gone', { code: 'agent_lost' }),
    ];
    await writeFile(join(logs, 'gateway-0.log'), lines.map((line) => JSON.stringify(line)).join('\n'));
    const outages = await readOutages(logs);
    expect(outages.whyGivenUp(failed('never-away', 'agent_lost'), 20_000)).toContain(
      'never away for longer than 0 ms',
    );
    expect(outages.whyGivenUp(failed('short', 'maybe_started'), 20_000)).toContain('longer than 10000 ms');
    // Its answer was due meanwhile.
    expect(outages.whyGivenUp(failed('short', 'maybe_started'), 10_000)).toBeUndefined();
    expect(outages.whyGivenUp(failed('never-away', 'agent_lost'), 10_000)).toBeDefined();
    expect(
      outages.whyGivenUp({ ...failed('', 'agent_lost'), requestId: 'r-never-away' }, 20_000),
    ).toBeDefined();
    expect(outages.whyGivenUp(failed('gone', 'agent_lost'), 20_000)).toBeUndefined();
    expect(outages.whyGivenUp(failed('never-away', 'draining'), 20_000)).toBeUndefined();
    expect(outages.whyOutOfTime('on-time')).toContain('away for 0 ms');
    expect(outages.whyOutOfTime('held-back')).toBeUndefined();
  });
});

test('output that is gone is a miss where its agent had room for it, and none where others took that', async () => {
  const logs = await mkdtemp(join(tmpdir(), 'podgate-kept-'));
  onTestFinished(() => rm(logs, { recursive: true }));
  const end = (second: number, execution_id: string, output_bytes: number, instance = 'one') => ({
    time: new Date(second * 1_000).toISOString(),
    event: 'execution',
    instance,
    execution_id,
    output_bytes,
  });
  const lines = [
    end(1, 'first', 10),
    end(2, 'elsewhere', MAX_RETAINED_BYTES, 'two'),
    end(3, 'large', MAX_RETAINED_BYTES),
  ];
  await writeFile(join(logs, 'agent-0.log'), lines.map((line) => JSON.stringify(line)).join('\n'));
  const kept = await readKeptOutput(logs);
  expect(kept.whyGap('first', 2_500)).toBe('a gap, though its agent had put 10 bytes behind it');
  expect(kept.whyGap('first', 3_500)).toBeUndefined();
  expect(kept.whyGap('nobody', 3_500)).toBe('a gap in what no agent tells of');
  expect(kept.whyGap(null, 3_500)).toBeDefined();
});

test('a soak finds memory that grows, and takes a heap that goes up and down for flat', () => {
  const minutes = (count: number) => count * 60_000;
  const rises = (bytesAt: (atMs: number) => number) => {
    let bytes = 0;
    const memory = watchMemory([{ name: 'gateway-0', residentBytes: () => bytes }], minutes(30));
    for (let atMs = 0; atMs <= minutes(30); atMs += 1_000) {
      bytes = bytesAt(atMs);
      memory.sample(atMs);
    }
    return memory.risen().map(({ name }) => name);
  };
  const base = 200_000_000;
  const growth = 2 * MAX_GROWTH_BYTES;
  const wave = (atMs: number) => growth * ((atMs % 100_000) / 100_000);
  expect(rises((atMs) => base + wave(atMs))).toEqual([]);
  expect(rises((atMs) => base + wave(atMs) + (growth * atMs) / minutes(18))).toEqual(['gateway-0']);
});

test('what runs again under its key is a miss while an agent that knew of it lives, and none once that has gone', async () => {
  const logs = await mkdtemp(join(tmpdir(), 'podgate-lives-'));
  onTestFinished(() => rm(logs, { recursive: true }));
  const line = (second: number, instance: string, execution_id?: string) => ({
    time: new Date(second * 1_000).toISOString(),
    event: execution_id === undefined ? 'agent_stopped' : 'execution',
    instance,
    ...(execution_id !== undefined && { execution_id, started: 'yes', run_ms: 1_000 }),
  });
  const lines = [
    line(10, 'gone', 'first'),
    line(11, 'gone'),
    line(13, 'lives', 'second'),
    line(20, 'late', 'third'),
    line(30, 'lives'),
  ];
  await writeFile(join(logs, 'agent-0.log'), lines.map((each) => JSON.stringify(each)).join('\n'));
  const lives = await readInstanceLives(logs);
  expect(lives.whyTwice(['first', 'second', 'first'], 2)).toBeUndefined();
  expect(lives.whyTwice(['second', 'third'], 2)).toBe('ran again while lives, which knew of it, lived');
  expect(lives.whyTwice(['first', ''], 2)).toBe('ran 2 times, of which its agents tell 1');
});
