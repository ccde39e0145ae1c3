import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Seen } from '../soak/asking.ts';
import { BUSY_MS, judge } from '../soak/judge.ts';
import { drawProgram, dueMs, type Kind, type Program, sha256 } from '../soak/programs.ts';
import { createRandom } from '../soak/random.ts';
import { planFaults, spanMs } from '../soak/schedule.ts';
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
  const about = { executionId: null, tookMs: 10 };
  const result: Seen = {
    ...about,
    saw: 'result',
    exitCode: 0,
    outcome: 'exited',
    timedOut: false,
    stdout,
    stderr,
  };
  const failure = (code: string, started: string, rest: object = {}): Seen =>
    ({ ...about, saw: 'failure', code, started, retryable: false, status: 502, detail: '', ...rest }) as Seen;
  const facts = { runs: 1, gatewayKilled: false };
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

  test('lets only a reader that stalls lose its connection', () => {
    const broke: Seen = { ...about, saw: 'break', cause: 'ECONNRESET' };
    expect(verdict(broke, {}, programOf('stalled_reader'))).toBeUndefined();
    expect(verdict(broke, {}, programOf('slow_reader'))).toBe('lost');
  });
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
