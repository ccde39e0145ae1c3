import { describe, expect, test } from 'vitest';
import type { ExecutionReport } from '../../agent/executions/execution-report.ts';
import { createExecutions, type Executions } from '../../agent/executions/executions.ts';
import type { ExecutionInput, ExecutionPort } from '../../agent/executions/port.ts';
import { STAGE_SILENCE_MS } from '../../agent/executions/runner-silence.ts';
import { StartInput } from '../../agent/executions/start-input.ts';
import { MAX_WAITING_LINK_BYTES, WAITING_START_BYTES } from '../../agent/executions/waiting-room.ts';
import { POOL_BOUNDS } from '../../agent/pool/bounds.ts';
import type { Pool } from '../../agent/pool/pool.ts';
import { Failure } from '../../shared/errors.ts';
import {
  MAX_READERS,
  MAX_REQUEST_BYTES,
  ORPHAN_MS,
  RECORD_TTL_MS,
  REPLAY_BYTES,
  RUNNER_GRACE_MS,
  STREAM_WINDOW_BYTES,
} from '../../shared/limits.ts';
import type { ExitBody, FileEnd, StartBody } from '../../shared/messages.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { createFakeBackend, type FakeBackend } from '../fakes/fake-backend.ts';
import { createFakeClock, type FakeClock } from '../fakes/fake-clock.ts';
import { type FakeRun, resultOf } from '../fakes/fake-runner.ts';
import { createQuietPool } from '../fakes/quiet-pool.ts';
import { START } from '../fakes/start-body.ts';
import { until } from '../fakes/until.ts';

type Heard = {
  words: string[];
  nack?: string;
  exit?: ExitBody;
  consumed: number;
  bytes: number;
  text: string;
  files: FileEnd[];
};

type Left = Parameters<ExecutionPort['exit']>[1];

const LINK = {};

function listen(): { port: ExecutionPort; heard: Heard } {
  const heard: Heard = { words: [], consumed: 0, bytes: 0, text: '', files: [] };
  const port: ExecutionPort = {
    link: LINK,
    accept: () => void heard.words.push('ACCEPT'),
    nack(code) {
      heard.words.push('NACK');
      heard.nack = code;
    },
    started: () => void heard.words.push('STARTED'),
    attached: () => void heard.words.push('ATTACHED'),
    gap: (channel, from, to) => void heard.words.push(`GAP ${channel} ${from} ${to}`),
    close: () => void heard.words.push('CLOSED'),
    data(channel, bytes) {
      heard.bytes += bytes.byteLength;
      heard.text += Buffer.from(bytes).toString();
      if (heard.words.at(-1) !== `DATA ${channel}`) heard.words.push(`DATA ${channel}`);
    },
    fileEnd: (file) => void heard.files.push(file),
    exit(body, left) {
      heard.words.push('EXIT');
      heard.exit = body;
      left('left');
    },
    consumed(bytes) {
      heard.consumed += bytes;
    },
  };
  return { port, heard };
}

let ids = 0;
function startBody(changes: Partial<StartBody> = {}): StartBody {
  ids += 1;
  return { ...START, execution_id: `e${ids}`, ...changes };
}

type Bench = {
  executions: Executions;
  pool: Pool;
  backend: FakeBackend;
  clock: FakeClock;
  reports: ExecutionReport[];
  /** START, four bytes of code, and what becomes of it. */
  begin(changes?: Partial<StartBody>): Promise<Begun>;
};
type Begun = { heard: Heard; input: ExecutionInput | undefined; run: FakeRun; start: StartBody };

async function createBench(template: Partial<TemplateInput> = {}, reconnects = false): Promise<Bench> {
  const clock = createFakeClock();
  const backend = createFakeBackend({ reconnects });
  backend.onRunner = (runner) => {
    runner.onRun = () => {};
  };
  const pool = await createQuietPool(backend, clock, {
    languages: ['python', 'node'],
    pool: { min: 2, max: 2 },
    ...template,
  });
  const reports: ExecutionReport[] = [];
  const known = new Set<FakeRun>();
  const executions = createExecutions({
    clock,
    policy: {
      maxOutputBytes: 500_000,
      hasCluster: (name) => name === 'here',
      findPool: (cluster, name) => (cluster === 'here' && name === 'default' ? pool : undefined),
    },
    onReport: (report) => reports.push(report),
    onChange: () => {},
  });
  return {
    executions,
    pool,
    backend,
    clock,
    reports,
    async begin(changes = {}) {
      const { port, heard } = listen();
      const start = startBody(changes);
      const input = executions.start(start, port);
      input?.data(Buffer.from('code'));
      await clock.settle();
      const run = backend.made.flatMap(({ runner }) => runner.runs).find((one) => !known.has(one)) as FakeRun;
      known.add(run);
      return { heard, input, run, start };
    },
  };
}

describe('an execution', () => {
  test('is accepted, started, relayed and ended in that order, and its sandbox returns', async () => {
    const { begin, clock, pool, reports } = await createBench();
    const { heard, run } = await begin();
    expect(heard.words).toEqual(['ACCEPT']);
    run.started();
    run.output(1, 'out');
    run.output(2, 'err');
    run.exit(resultOf({ stdout_bytes: 3, stderr_bytes: 3 }));
    await clock.settle();
    expect(heard.words).toEqual(['ACCEPT', 'STARTED', 'DATA 1', 'DATA 2', 'EXIT']);
    expect(pool.counts()).toMatchObject({ idle: 2, taken: 0 });
    expect(reports).toMatchObject([
      { outcome: 'exited', started: 'yes', settled: 'returned', outputBytes: 6 },
    ]);
  });

  test('is told to the runner by the traceparent and the id of its request', async () => {
    const { begin } = await createBench();
    const traces = {
      request_id: 'req-7',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    };
    expect((await begin(traces)).run.body).toMatchObject(traces);
  });

  test('gets the template’s limits where the request asks for more, and its own where it asks for less', async () => {
    const { begin } = await createBench({ resources: { memory_mb: 100, cpu_seconds: 3, timeout_ms: 1_500 } });
    const more = await begin({
      limits: {
        timeout_ms: 9_000,
        max_output_bytes: 9_000_000,
        memory_mb: 900,
        cpu_seconds: 9,
        output_limit_bytes: null,
      },
    });
    expect(more.run.body.limits).toEqual({
      timeout_ms: 1_500,
      max_output_bytes: 500_000,
      memory_bytes: 104_857_600,
      cpu_seconds: 3,
      output_limit_bytes: null,
    });
    const less = await begin({
      limits: { timeout_ms: 1, max_output_bytes: 2, memory_mb: 16, cpu_seconds: 1, output_limit_bytes: 5 },
    });
    expect(less.run.body.limits).toEqual({
      timeout_ms: 1,
      max_output_bytes: 2,
      memory_bytes: 16_777_216,
      cpu_seconds: 1,
      output_limit_bytes: 5,
    });
  });

  test('waits for a sandbox with its input kept, and runs when one comes', async () => {
    const { begin, clock } = await createBench({ pool: { min: 1, max: 1 } });
    const first = await begin();
    const second = await begin();
    expect(second.heard.words).toEqual([]);
    first.run.started();
    first.run.exit(resultOf());
    await clock.settle();
    expect(second.heard.words).toEqual(['ACCEPT']);
  });

  test('is refused with at_capacity when no sandbox comes within accept_within_ms', async () => {
    const { begin, clock } = await createBench({ pool: { min: 1, max: 1 } });
    await begin();
    const { heard } = await begin({ accept_within_ms: 700 });
    await clock.advance(699);
    expect(heard.words).toEqual([]);
    await clock.advance(1);
    expect(heard.nack).toBe('at_capacity');
  });

  test('that waits for a sandbox is refused, and may run elsewhere, where too many wait for one already', async () => {
    const { begin, executions, clock, pool, reports } = await createBench({ pool: { min: 1, max: 1 } });
    const first = await begin();
    const most = MAX_WAITING_LINK_BYTES / WAITING_START_BYTES - 1;
    const sizes = { manifest: 0, code: 0, stdin: null, files: 0 };
    for (let count = 0; count < most; count += 1) executions.start(startBody({ sizes }), listen().port);
    await clock.settle();
    expect([pool.counts().waiting, reports]).toEqual([most, []]);
    const { heard, start } = await begin({ sizes: { ...sizes, code: WAITING_START_BYTES } });
    expect([heard.words, heard.nack]).toEqual([['NACK'], 'at_capacity']);
    expect(reports).toMatchObject([{ outcome: 'at_capacity', started: 'no' }]);
    expect(
      executions.status({ ref: 0, execution_id: start.execution_id, refuse_if_unknown: false }).state,
    ).toBe('unknown');
    first.run.started();
    first.run.exit(resultOf());
    await clock.settle();
    expect(pool.counts()).toMatchObject({ taken: 1, waiting: most - 1 });
  });

  test('keeps input that comes byte by byte before its sandbox in what it has bytes', () => {
    const input = new StartInput(STREAM_WINDOW_BYTES, { consumed() {} });
    for (let byte = 0; byte < STREAM_WINDOW_BYTES; byte += 1) input.push(Uint8Array.of(byte % 251));
    const written: Uint8Array[] = [];
    input.begin({ write: (bytes) => void written.push(bytes) });
    expect(written.length).toBeLessThan(10);
    const expected = Uint8Array.from({ length: STREAM_WINDOW_BYTES }, (_, at) => at % 251);
    expect(Buffer.concat(written).equals(expected)).toBe(true);
  });

  test('passes on to the gateway what room the runner has, and the reverse', async () => {
    const { begin, clock } = await createBench();
    const { heard, run, input } = await begin({
      sizes: { manifest: 0, code: 4, stdin: STREAM_WINDOW_BYTES, files: 0 },
    });
    input?.data(new Uint8Array(32_768));
    await clock.settle();
    expect(heard.consumed).toBe(0);
    run.takeInput();
    await clock.settle();
    expect(heard.consumed).toBe(32_772);
    input?.window(STREAM_WINDOW_BYTES + 999);
    await clock.settle();
    expect(run.limit).toBe(STREAM_WINDOW_BYTES + 999);
  });
});

describe('a START that is refused', () => {
  const cases: [changes: Partial<StartBody>, code: string][] = [
    [{ cluster: 'there' }, 'no_cluster'],
    [{ template: 'other' }, 'no_template'],
    [{ language: 'bash' }, 'no_language'],
    [{ language: 'node' }, 'no_language'],
    [{ sizes: { manifest: 0, code: MAX_REQUEST_BYTES + 1, stdin: null, files: 0 } }, 'too_large'],
    [{ sizes: { manifest: 0, code: 1, stdin: MAX_REQUEST_BYTES + 1, files: 0 } }, 'too_large'],
    [{ sizes: { manifest: 4_718_593, code: 1, stdin: null, files: 0 } }, 'too_large'],
    [{ sizes: { manifest: 0, code: 1, stdin: null, files: 67_108_865 } }, 'too_large'],
    [{ concurrency: 0 }, 'rate_limited'],
  ];
  test.for(cases)('%j: %s, and no sandbox is spent', async ([changes, code]) => {
    const { executions, pool, clock, backend } = await createBench();
    const { port, heard } = listen();
    executions.start(startBody(changes), port);
    await clock.settle();
    expect(heard.words).toEqual(['NACK']);
    expect(heard.nack).toBe(code);
    expect(pool.counts()).toMatchObject({ idle: 2 });
    expect(backend.alive).toHaveLength(2);
    expect(executions.running()).toBe(0);
  });

  test.for<[Partial<StartBody['sizes']>, string]>([
    [
      { manifest: 4_718_593 },
      'Arguments, environment and names of files have 4718593 bytes; 4718592 is the most here.',
    ],
    [{ code: 16_777_217 }, 'The code has 16777217 bytes; 16777216 is the most here.'],
    [{ stdin: 16_777_217 }, 'Standard input has 16777217 bytes; 16777216 is the most here.'],
    [{ files: 67_108_865 }, 'The files have 67108865 bytes; 67108864 is the most here.'],
  ])('%j says what is too large, how large it is and may be', async ([sizes, detail]) => {
    const { executions } = await createBench();
    const { port } = listen();
    let said = '';
    const nack = (_code: string, sentence: string) => {
      said = sentence;
    };
    const whole = { manifest: 0, code: 0, stdin: null, files: 0, ...sizes };
    executions.start(startBody({ sizes: whole }), { ...port, nack });
    expect(said).toBe(detail);
  });

  test('for its language says which there are', async () => {
    const { executions } = await createBench();
    const said: string[][] = [];
    const nack = (code: string, detail: string) => void said.push([code, detail]);
    executions.start(startBody({ language: 'bash' }), { ...listen().port, nack });
    expect(said).toEqual([
      ['no_language', expect.stringMatching(/ does not offer bash, only python, node\.$/)],
    ]);
  });

  test('sizes at their limits are not', async () => {
    const { executions } = await createBench();
    const { port, heard } = listen();
    executions.start(
      startBody({
        sizes: { manifest: 4_718_592, code: MAX_REQUEST_BYTES, stdin: MAX_REQUEST_BYTES, files: 67_108_864 },
      }),
      port,
    );
    expect(heard.words).toEqual(['ACCEPT']);
  });

  test('counts concurrency at the key’s holder, whatever end users it names', async () => {
    const { begin, clock } = await createBench();
    const first = await begin({ principal: 'acme/alice/one', concurrency: 1 });
    const second = await begin({ principal: 'acme/alice/two', concurrency: 1 });
    const other = await begin({ principal: 'acme/bob', holder: 'acme/bob', concurrency: 1 });
    expect(second.heard.nack).toBe('rate_limited');
    expect(other.heard.words).toEqual(['ACCEPT']);
    first.run.started();
    first.run.exit(resultOf());
    await clock.settle();
    expect((await begin({ concurrency: 1 })).heard.words).toEqual(['ACCEPT']);
  });

  test('with an id that is known is a duplicate, while it runs and for ten minutes after', async () => {
    const { begin, clock } = await createBench();
    const { run, start } = await begin();
    const again = { execution_id: start.execution_id };
    expect((await begin(again)).heard.nack).toBe('duplicate');
    run.started();
    run.exit(resultOf());
    await clock.advance(RECORD_TTL_MS - 1);
    expect((await begin(again)).heard.nack).toBe('duplicate');
    await clock.advance(1);
    expect((await begin(again)).heard.words).toEqual(['ACCEPT']);
  });

  test('with a key that stands for another execution is a duplicate, and so is one of no claim', async () => {
    const { begin, executions } = await createBench();
    const claim = { ref: 1, digest: 'd', replaces: null, keep_ms: 1_000, release: false };
    expect(executions.claim({ ...claim, key: 'k', execution_id: 'own' })).toMatchObject({
      execution_id: 'own',
    });
    expect((await begin({ key: 'k', execution_id: 'other' })).heard.nack).toBe('duplicate');
    expect((await begin({ key: 'unclaimed' })).heard.nack).toBe('duplicate');
    const { heard } = await begin({ key: 'k', execution_id: 'own' });
    expect(heard.nack).toBeUndefined();
    const again = executions.claim({ ...claim, key: 'k', execution_id: 'third', replaces: 'own' });
    expect(again).toEqual({ ref: 1, execution_id: 'own', digest: 'd', state: 'accepted' });
  });

  test('leaves its key to who replaces it where it is refused, and only ten minutes after where it ends', async () => {
    const { begin, executions, clock } = await createBench({ pool: { min: 1, max: 1 } });
    const claim = (key: string, execution_id: string, replaces: string | null = null) =>
      executions.claim({ ref: 1, digest: 'd', replaces, keep_ms: 1_000, release: false, key, execution_id })
        .execution_id;
    claim('ends', 'one');
    const { run } = await begin({ key: 'ends', execution_id: 'one' });
    claim('refused', 'two');
    await begin({ key: 'refused', execution_id: 'two' });
    void executions.cancel('two', 'caller_left');
    run.started();
    run.exit(resultOf());
    await clock.settle();
    expect([claim('ends', 'a', 'one'), claim('refused', 'b', 'two')]).toEqual(['one', 'b']);
    await clock.advance(RECORD_TTL_MS - 1);
    expect(claim('ends', 'a')).toBe('one');
    await clock.advance(1);
    expect(claim('ends', 'a')).toBe('a');
  });

  test('with an id that was fenced is a duplicate', async () => {
    const { begin, executions } = await createBench();
    expect(executions.status({ ref: 1, execution_id: 'f', refuse_if_unknown: false })).toMatchObject({
      state: 'unknown',
    });
    expect(executions.status({ ref: 2, execution_id: 'f', refuse_if_unknown: true })).toMatchObject({
      state: 'fenced',
    });
    expect((await begin({ execution_id: 'f' })).heard.nack).toBe('duplicate');
  });

  test('may come again after a NACK: nothing ran', async () => {
    const { begin, executions } = await createBench();
    await begin({ execution_id: 'g', template: 'other' });
    expect(executions.status({ ref: 1, execution_id: 'g', refuse_if_unknown: false }).state).toBe('unknown');
    expect((await begin({ execution_id: 'g' })).heard.words).toEqual(['ACCEPT']);
  });
});

describe('STATUS', () => {
  test('tells accepted, started and ended with their ages', async () => {
    const { begin, executions, clock } = await createBench();
    const { run, start } = await begin();
    const ask = () =>
      executions.status({ ref: 5, execution_id: start.execution_id, refuse_if_unknown: true });
    await clock.advance(10);
    expect(ask()).toMatchObject({
      ref: 5,
      state: 'accepted',
      record: { accepted_at_ms_ago: 10, started_at_ms_ago: null },
    });
    run.started();
    await clock.advance(10);
    expect(ask()).toMatchObject({
      state: 'started',
      record: { started_at_ms_ago: 10, ended_at_ms_ago: null, exit: null },
    });
    run.exit(resultOf({ exit_code: 3, files_omitted: [{ path: 'x', reason: 'y' }], files_omitted_count: 1 }));
    await clock.advance(10);
    expect(ask()).toMatchObject({
      state: 'ended',
      record: {
        ended_at_ms_ago: 10,
        exit: { result: { exit_code: 3, files_omitted: [], files_omitted_count: 1 } },
      },
    });
  });

  test('tells the same time between acceptance, start and end whenever it is asked', async () => {
    const { begin, executions, clock } = await createBench();
    const { run, start } = await begin();
    await clock.advance(10.4);
    run.started();
    await clock.advance(20.4);
    run.exit(resultOf());
    for (const laterMs of [0, 0.2, 0.2, 0.2, 0.2]) {
      await clock.advance(laterMs);
      const { record } = executions.status({
        ref: 5,
        execution_id: start.execution_id,
        refuse_if_unknown: true,
      });
      if (!record) throw new Error('no record');
      expect(record.accepted_at_ms_ago - (record.started_at_ms_ago ?? 0)).toBe(10);
      expect(record.accepted_at_ms_ago - (record.ended_at_ms_ago ?? 0)).toBe(31);
    }
  });
});

describe('the agent’s own clock', () => {
  test('calls a run timed out whose runner is silent past its timeout and the grace', async () => {
    const { begin, clock, backend } = await createBench();
    const { heard, run } = await begin();
    run.started();
    run.output(1, 'half');
    await clock.advance(2_000 + RUNNER_GRACE_MS - 1);
    expect(heard.words).not.toContain('EXIT');
    await clock.advance(1);
    expect(heard.exit?.result).toMatchObject({
      outcome: 'timed_out',
      timed_out: true,
      exit_code: null,
      stdout_bytes: 4,
    });
    await clock.settle();
    expect(backend.made.filter(({ destroyed }) => destroyed)).toHaveLength(1);
  });

  test('does not hurry a runner that nobody reaches: the stream to it is lost, not the program', async () => {
    const { begin, clock, backend } = await createBench({}, true);
    const { heard, run } = await begin();
    backend.unreachable = true;
    for (const { runner } of backend.made) if (runner.runs.includes(run)) runner.die();
    await clock.advance(POOL_BOUNDS.reconnectTimeoutMs - 2_000);
    expect(heard.words).toEqual(['ACCEPT']);
    await clock.advance(4_000);
    expect(heard.exit?.failure).toMatchObject({ code: 'sandbox_lost', started: 'unknown' });
  });

  test('calls no run timed out whose runner could not be reached as its time was over', async () => {
    const { begin, clock, backend } = await createBench({}, true);
    const { heard, run } = await begin();
    run.started();
    await clock.settle();
    backend.unreachable = true;
    for (const { runner } of backend.made) if (runner.runs.includes(run)) runner.die();
    await clock.advance(2_000 + RUNNER_GRACE_MS);
    expect(heard.exit?.failure).toMatchObject({ code: 'sandbox_lost', started: 'yes' });
  });

  test('gives a runner that could not be reached its time again to start the program', async () => {
    const { begin, clock, backend } = await createBench({}, true);
    const { heard, run } = await begin();
    backend.unreachable = true;
    backend.onRunner = (runner) => {
      runner.answers.ready = { running: [1] };
    };
    for (const { runner } of backend.made) if (runner.runs.includes(run)) runner.die();
    await clock.advance(2 * STAGE_SILENCE_MS);
    backend.unreachable = false;
    await clock.advance(STAGE_SILENCE_MS - RUNNER_GRACE_MS);
    expect(heard.words).toEqual(['ACCEPT']);
    await clock.advance(STAGE_SILENCE_MS);
    expect(heard.exit?.failure).toMatchObject({ code: 'runner_error', started: 'unknown' });
  });

  test('does not hurry a runner that may send nothing', async () => {
    const { begin, clock } = await createBench();
    const { heard, run, input } = await begin();
    run.started();
    run.output(1, new Uint8Array(STREAM_WINDOW_BYTES));
    await clock.advance(60_000);
    expect(heard.words).not.toContain('EXIT');
    input?.window(2 * STREAM_WINDOW_BYTES);
    run.exit(resultOf({ stdout_bytes: STREAM_WINDOW_BYTES }));
    await clock.settle();
    expect(heard.exit?.result?.outcome).toBe('exited');
  });

  test('gives a runner its grace again that may send once more', async () => {
    const { begin, clock } = await createBench();
    const { heard, run, input } = await begin();
    run.started();
    run.output(3, new Uint8Array(STREAM_WINDOW_BYTES));
    await clock.advance(2_000 + 5 * RUNNER_GRACE_MS - 1);
    input?.window(STREAM_WINDOW_BYTES + 1);
    await clock.advance(RUNNER_GRACE_MS - 1);
    expect(heard.words).not.toContain('EXIT');
    run.output(3, 'x');
    await clock.advance(60_000);
    expect(heard.words).not.toContain('EXIT');
    input?.window(STREAM_WINDOW_BYTES + 2);
    await clock.advance(2 * RUNNER_GRACE_MS);
    expect(heard.exit?.failure).toMatchObject({ code: 'runner_error', started: 'yes' });
  });

  test('takes its own standing still for no silence of the runner', async () => {
    const { begin, clock } = await createBench();
    const { heard, run } = await begin();
    run.started();
    await clock.settle();
    clock.standStill(3_600_000);
    await clock.advance(RUNNER_GRACE_MS - 1);
    // Its end had come long before, and was not read.
    run.exit(resultOf());
    await clock.settle();
    expect(heard.exit?.result?.outcome).toBe('exited');
  });

  test('calls a run timed out all the same whose runner says nothing after a standstill', async () => {
    const { begin, clock } = await createBench();
    const { heard, run } = await begin();
    run.started();
    await clock.settle();
    clock.standStill(3_600_000);
    await clock.advance(RUNNER_GRACE_MS);
    expect(heard.exit?.result?.outcome).toBe('timed_out');
  });

  test('does not hurry a runner that still sends', async () => {
    const { begin, clock } = await createBench();
    const { heard, run } = await begin();
    run.started();
    for (let second = 0; second < 8; second += 1) {
      await clock.advance(1_000);
      run.output(3, 'x');
    }
    await clock.settle();
    expect(heard.words).not.toContain('EXIT');
    // It fell silent while it sent files: the program had ended, and when is not known.
    await clock.advance(RUNNER_GRACE_MS);
    expect(heard.exit?.failure).toMatchObject({ code: 'runner_error', started: 'yes' });
  });

  test('gives a runner up that does not start the program, and says that it may have', async () => {
    const { begin, clock } = await createBench();
    const { heard } = await begin();
    await clock.advance(10_000);
    expect(heard.exit?.failure).toMatchObject({ code: 'runner_error', started: 'unknown' });
  });

  test('gives a gateway up that does not send the input: nothing ran', async () => {
    const { begin, clock } = await createBench();
    const { heard } = await begin({ sizes: { manifest: 0, code: 5, stdin: null, files: 0 } });
    await clock.advance(29_999);
    expect(heard.words).toEqual(['ACCEPT']);
    await clock.advance(1);
    expect(heard.nack).toBe('deadline_exceeded');
  });
});

describe('a sandbox that is lost', () => {
  test('before its input was whole: nothing ran', async () => {
    const { begin, clock, backend } = await createBench();
    const { heard } = await begin({ sizes: { manifest: 0, code: 5, stdin: null, files: 0 } });
    for (const { runner } of backend.made) runner.die();
    await clock.settle();
    expect(heard.nack).toBe('sandbox_lost');
  });

  test('before STARTED: the program may have started', async () => {
    const { begin, clock, backend } = await createBench();
    const { heard } = await begin();
    for (const { runner } of backend.made) runner.die();
    await clock.settle();
    expect(heard.exit?.failure).toMatchObject({ code: 'sandbox_lost', started: 'unknown' });
  });

  test('after STARTED: it had', async () => {
    const { begin, clock, backend, reports } = await createBench();
    const { heard, run } = await begin();
    run.started();
    await clock.settle();
    for (const { runner } of backend.made) runner.die();
    await clock.settle();
    expect(heard.exit?.failure).toMatchObject({ code: 'sandbox_lost', started: 'yes' });
    expect(reports).toMatchObject([{ outcome: 'sandbox_lost', settled: 'discarded' }]);
  });

  test('because its runner broke the protocol is the runner’s fault, not the caller’s', async () => {
    const { begin, clock } = await createBench();
    const { heard, run } = await begin();
    run.output(1, 'before STARTED');
    await clock.settle();
    expect(heard.exit?.failure).toMatchObject({ code: 'runner_error', started: 'unknown' });
  });

  test.for([
    ['that it broke', 'runner_error'],
    // A sandbox may say anything: no log or metric holds a word of its choosing.
    ['what no agent knows', 'of_its_choosing'],
  ])(
    'of which the runner says %s, once the program had begun, has no other execution',
    async ([, code = '']) => {
      const { begin, clock, backend, reports } = await createBench();
      const { run } = await begin();
      run.started();
      run.exit({ result: null, failure: { code, detail: 'x', started: 'yes' } });
      await clock.settle();
      expect(reports).toMatchObject([{ outcome: 'runner_error', settled: 'discarded' }]);
      expect(backend.made.map(({ destroyed }) => destroyed)).toContain(true);
    },
  );

  test.for([
    ['its link is lost', ({ input }: Begun) => input?.leave('link_lost')],
    [
      'its agent ends',
      (_: Begun, { executions }: Bench) => executions.killAll(new Failure('draining', 'Over.')),
    ],
  ] as const)('is not put back with half of an input in it when %s', async ([, end]) => {
    const bench = await createBench();
    const begun = await bench.begin({ sizes: { manifest: 0, code: 5, stdin: null, files: 0 } });
    end(begun, bench);
    await bench.clock.settle();
    expect(bench.reports).toMatchObject([{ refused: true, started: 'no', settled: 'discarded' }]);
  });

  test('after a failure that is the runner’s own goes; after one that is the input’s stays', async () => {
    for (const [code, settled] of [
      ['runner_error', 'discarded'],
      ['stage_failed', 'returned'],
    ] as const) {
      const { begin, clock, reports } = await createBench();
      const { run } = await begin();
      run.exit({ result: null, failure: { code, detail: 'x', started: 'no' } });
      await clock.settle();
      expect(reports).toMatchObject([{ outcome: code, settled }]);
    }
  });

  test('that fails before it begins the program refuses it, as nothing ran: it may run elsewhere', async () => {
    for (const code of ['runner_error', 'sandbox_lost', 'of_a_later_runner']) {
      const { begin, clock, executions, reports } = await createBench();
      const { heard, run, start } = await begin();
      run.exit({ result: null, failure: { code, detail: 'No place was ready.', started: 'no' } });
      await clock.settle();
      expect(heard.words).toEqual(['ACCEPT', 'NACK']);
      expect(heard.nack).toBe(code === 'of_a_later_runner' ? 'runner_error' : code);
      expect(reports).toMatchObject([{ refused: true, started: 'no', settled: 'discarded' }]);
      const asked = { ref: 1, execution_id: start.execution_id, refuse_if_unknown: false };
      expect(executions.status(asked).state).toBe('unknown');
    }
  });

  test('whose runner fails, or is told to cancel, inside a file is told what the runner said', async () => {
    const failure = { code: 'runner_error', detail: 'It broke.', started: 'yes' } as const;
    const cancelled = resultOf({ outcome: 'cancelled', exit_code: null });
    for (const exit of [{ result: null, failure }, cancelled]) {
      const { begin, clock } = await createBench();
      const { heard, run } = await begin();
      run.started();
      run.output(3, 'half of a file');
      run.exit(exit);
      await clock.settle();
      expect(heard.exit).toEqual(exit);
    }
  });

  test.for([
    ['may have begun', 'runner_error', 'unknown'],
    ['could not be staged', 'stage_failed', 'no'],
    ['was cancelled', 'cancelled', 'no'],
  ] as const)('whose program %s is an EXIT with %s, started %s', async ([, code, started]) => {
    const { begin, clock } = await createBench();
    const { heard, run } = await begin();
    run.exit({ result: null, failure: { code, detail: 'x', started } });
    await clock.settle();
    expect([heard.words, heard.exit?.failure]).toEqual([['ACCEPT', 'EXIT'], { code, detail: 'x', started }]);
  });
});

describe('CANCEL', () => {
  test('while it waits for a sandbox is a NACK, and the sandbox goes to the next', async () => {
    const { begin, clock, executions } = await createBench({ pool: { min: 1, max: 1 } });
    const first = await begin();
    const second = await begin();
    const third = await begin();
    executions.cancel(second.start.execution_id, 'caller_gone');
    expect(second.heard.nack).toBe('cancelled');
    first.run.started();
    first.run.exit(resultOf());
    await clock.settle();
    expect(third.heard.words).toEqual(['ACCEPT']);
  });

  test('while it runs is confirmed by the runner', async () => {
    const { begin, clock, reports } = await createBench();
    const { heard, run, input } = await begin();
    run.started();
    await clock.settle();
    input?.cancel('caller_gone');
    input?.cancel('caller_gone');
    await clock.settle();
    expect(run.cancelled).toBe('caller_gone');
    expect(heard.exit?.result?.outcome).toBe('cancelled');
    expect(reports[0]?.settled).toBe('returned');
  });

  test('that the runner does not confirm costs the sandbox', async () => {
    const { begin, clock, backend } = await createBench();
    for (const { runner } of backend.made) runner.onCancel = () => {};
    const { heard, run, input } = await begin();
    run.started();
    await clock.settle();
    input?.cancel('caller_gone');
    await clock.advance(RUNNER_GRACE_MS);
    expect(heard.exit?.failure).toMatchObject({ code: 'cancelled', started: 'yes' });
    expect(backend.made.some(({ destroyed }) => destroyed)).toBe(true);
  });

  test('comes by itself where more input comes than was announced', async () => {
    const { begin, clock } = await createBench();
    const { run, input } = await begin();
    expect(input?.data(Buffer.from('x'))).toBe(false);
    await clock.settle();
    expect([run.cancelled, run.input.toString()]).toEqual(['protocol_error', 'code']);
  });

  test('for a stalled reader lets the runner get rid of its output', async () => {
    const { begin, clock, backend } = await createBench();
    for (const { runner } of backend.made) runner.onCancel = () => {};
    const { heard, run, input } = await begin();
    run.started();
    run.output(1, new Uint8Array(STREAM_WINDOW_BYTES));
    await clock.settle();
    input?.cancel('reader_stalled');
    await clock.settle();
    expect(run.limit).toBe(2 * STREAM_WINDOW_BYTES);
    run.output(1, new Uint8Array(10));
    run.file({ path: 'x', size: 0, sha256: '0'.repeat(64) });
    run.exit(resultOf({ outcome: 'cancelled', exit_code: null, stdout_bytes: STREAM_WINDOW_BYTES + 10 }));
    await clock.settle();
    expect([heard.bytes, heard.files]).toEqual([STREAM_WINDOW_BYTES, []]);
    expect(heard.exit?.result).toMatchObject({ outcome: 'cancelled', stdout_truncated: true });
  });
});

describe('an execution whose link is lost', () => {
  const CODE_ONLY = { reader: null, offsets: { '1': 0, '2': 0, '3': 0 }, files: 0, pending: 0 };

  test('goes on, and tells whoever attaches all that was said and is to come', async () => {
    const { begin, clock, executions, reports } = await createBench();
    const { heard, run, input, start } = await begin();
    run.started();
    run.output(1, 'before ');
    await clock.settle();
    input?.leave('link_lost');
    run.output(1, 'between ');
    await clock.settle();
    const again = listen();
    executions.attach(
      { ...CODE_ONLY, execution_id: start.execution_id, offsets: { '1': 3, '2': 0, '3': 0 } },
      again.port,
    );
    run.output(1, 'after');
    run.exit(resultOf({ stdout_bytes: 20 }));
    await clock.settle();
    expect(run.cancelled).toBeUndefined();
    expect(heard.words).toEqual(['ACCEPT', 'STARTED', 'DATA 1']);
    expect(again.heard.words).toEqual(['ATTACHED', 'STARTED', 'DATA 1', 'EXIT']);
    expect(again.heard.text).toBe('ore between after');
    expect(reports).toMatchObject([{ outcome: 'exited', settled: 'returned' }]);
  });

  test('is killed where nobody attaches for 30 s, unless nobody has to', async () => {
    const { begin, clock, executions } = await createBench();
    const plain = await begin();
    const detached = await begin({ detach: true });
    for (const { run, input } of [plain, detached]) {
      run.started();
      await clock.settle();
      input?.leave('link_lost');
    }
    // A byte a second: silence past its time would end it too.
    for (let second = 0; second < ORPHAN_MS / 1_000 - 1; second += 1) {
      plain.run.output(1, '.');
      detached.run.output(1, '.');
      await clock.advance(1_000);
    }
    await clock.advance(999);
    expect(plain.run.cancelled).toBeUndefined();
    await clock.advance(1);
    expect(plain.run.cancelled).toBe('orphaned');
    expect(detached.run.cancelled).toBeUndefined();
    const { execution_id } = plain.start;
    expect(executions.status({ ref: 1, execution_id, refuse_if_unknown: true })).toMatchObject({
      state: 'ended',
      record: { exit: { result: null, failure: { code: 'agent_lost', started: 'yes' } } },
    });
  });

  test('keeps 1 MiB of each channel for nobody, and 1 MiB and no more once nobody is waited for', async () => {
    const { begin, clock, executions } = await createBench();
    const limits = { ...START.limits, timeout_ms: 60_000 };
    const { run, input, start } = await begin({ detach: true, limits });
    run.started();
    input?.leave('link_lost');
    for (const channel of [1, 2] as const) {
      await until(() => run.limit === REPLAY_BYTES);
      run.output(channel, new Uint8Array(400_000));
    }
    await until(() => run.limit > REPLAY_BYTES);
    expect(run.limit).toBe(REPLAY_BYTES + 400_000);
    await clock.advance(ORPHAN_MS);
    for (let sent = 0; sent < 16; sent += 1) {
      run.output(3, new Uint8Array(STREAM_WINDOW_BYTES));
      await clock.settle();
    }
    const { port, heard } = listen();
    executions.attach({ execution_id: start.execution_id, ...CODE_ONLY, reader: 'r' }, port);
    expect(heard.words).toContainEqual(expect.stringMatching(/^GAP 3 0 /));
  });

  test('is held back past 1 MiB that nobody has acknowledged, and goes on when somebody has', async () => {
    const { begin, clock, executions } = await createBench();
    const { run, input, start } = await begin();
    run.started();
    await clock.settle();
    input?.leave('link_lost');
    await clock.settle();
    expect(run.limit).toBe(REPLAY_BYTES);
    // Of files: what is printed ends at the cap of the request before.
    run.output(3, new Uint8Array(REPLAY_BYTES));
    for (let turn = 0; turn < 20; turn += 1) await clock.settle();
    expect(run.limit).toBe(REPLAY_BYTES);
    const again = listen();
    const attached = executions.attach({ ...CODE_ONLY, execution_id: start.execution_id }, again.port);
    attached?.window(REPLAY_BYTES + 5);
    await clock.settle();
    expect(run.limit).toBe(REPLAY_BYTES + 5);
    expect(again.heard.bytes).toBe(REPLAY_BYTES);
  });

  test('before its input was whole never ran, nor before it had a sandbox', async () => {
    const { begin, executions } = await createBench({ pool: { min: 1, max: 1 } });
    const staging = await begin({ sizes: { manifest: 0, code: 5, stdin: null, files: 0 } });
    const waiting = await begin();
    for (const { input, start, heard } of [staging, waiting]) {
      const { execution_id } = start;
      input?.leave('link_lost');
      expect(heard.nack).toBeUndefined();
      expect(executions.status({ ref: 1, execution_id, refuse_if_unknown: true }).state).toBe('fenced');
    }
    expect(executions.running()).toBe(0);
  });

  test('tells what it said for ten minutes after its end, and its outcome alone once that was acknowledged', async () => {
    const { begin, clock, executions } = await createBench();
    const { run, start } = await begin();
    run.started();
    run.output(1, 'all of it');
    run.file({ path: 'empty', size: 0, sha256: '0'.repeat(64) });
    run.exit(resultOf({ stdout_bytes: 9 }));
    await clock.advance(RECORD_TTL_MS - 1);
    const request = { ...CODE_ONLY, reader: 'late', execution_id: start.execution_id };
    const whole = listen();
    executions.attach(request, whole.port);
    expect(whole.heard).toMatchObject({ text: 'all of it', files: [{ path: 'empty' }], exit: {} });
    const partial = listen();
    executions.attach({ ...request, offsets: { '1': 9, '2': 0, '3': 0 }, files: 1 }, partial.port);
    expect(partial.heard).toMatchObject({ text: '', files: [], exit: {} });
    executions.acknowledge(start.execution_id);
    const late = listen();
    executions.attach(request, late.port);
    expect(late.heard.words).toEqual(['ATTACHED', 'STARTED', 'GAP 1 0 9', 'EXIT']);
    expect(late.heard.files).toHaveLength(1);
    await clock.advance(1);
    const gone = listen();
    executions.attach(request, gone.port);
    expect(gone.heard.nack).toBe('not_found');
  });

  test('has one stream for each reader: its next takes the place of the one before', async () => {
    const { begin, clock, executions } = await createBench();
    const { heard, run, start } = await begin();
    run.started();
    await clock.settle();
    const again = listen();
    executions.attach({ ...CODE_ONLY, execution_id: start.execution_id }, again.port);
    run.output(1, 'x');
    await clock.settle();
    expect(heard.words).toEqual(['ACCEPT', 'STARTED', 'CLOSED']);
    expect(again.heard.text).toBe('x');
    const others = Array.from({ length: MAX_READERS }, (_, index) => {
      const { port, heard } = listen();
      executions.attach({ ...CODE_ONLY, reader: `r${index}`, execution_id: start.execution_id }, port);
      return heard.nack;
    });
    expect(others).toEqual([...Array.from({ length: MAX_READERS - 1 }), 'rate_limited']);
  });

  test('that is over has so many readers at once as one that runs, until each has taken the end', async () => {
    const { begin, clock, executions } = await createBench();
    const { run, start } = await begin();
    run.started();
    run.output(1, 'x');
    run.exit(resultOf({ stdout_bytes: 1 }));
    await clock.settle();
    const attach = (reader: string) => {
      const { port, heard } = listen();
      const waits: Left[] = [];
      const slow = { ...port, exit: (_: ExitBody, left: Left) => void waits.push(left) };
      executions.attach({ ...CODE_ONLY, reader, execution_id: start.execution_id }, slow);
      return { heard, left: () => waits.shift()?.('left') };
    };
    const readers = Array.from({ length: MAX_READERS }, (_, index) => attach(`r${index}`));
    expect(readers.map(({ heard }) => heard.nack)).toEqual(readers.map(() => undefined));
    expect(attach('late').heard.nack).toBe('rate_limited');
    expect(attach('r0').heard.nack).toBeUndefined();
    expect(readers[0]?.heard.nack).toBe('replaced');
    readers[1]?.left();
    expect(attach('late').heard.nack).toBeUndefined();
    await clock.advance(RECORD_TTL_MS);
    executions.status({ ref: 1, execution_id: start.execution_id, refuse_if_unknown: false });
    expect(readers[2]?.heard.words).toEqual(['ATTACHED', 'STARTED', 'DATA 1', 'CLOSED']);
  });

  test('sends no more than there is', async () => {
    const { begin, clock, executions } = await createBench();
    const { run, start } = await begin();
    run.started();
    run.output(1, 'xy');
    await clock.settle();
    const refusals = [
      { offsets: { '1': 3, '2': 0, '3': 0 } },
      { offsets: { '1': 0, '2': 1, '3': 0 } },
      { files: 1 },
    ].map((changes) => {
      const { port, heard } = listen();
      executions.attach({ ...CODE_ONLY, execution_id: start.execution_id, ...changes }, port);
      return heard.nack;
    });
    expect(refusals).toEqual(['invalid_request', 'invalid_request', 'invalid_request']);
  });

  test('is held back by the slower of two readers, until that one leaves', async () => {
    const { begin, clock, executions } = await createBench();
    const { run, start, input } = await begin();
    run.started();
    await clock.settle();
    const second = executions.attach(
      { ...CODE_ONLY, reader: 'second', execution_id: start.execution_id },
      listen().port,
    );
    input?.window(STREAM_WINDOW_BYTES + 1_000);
    await clock.settle();
    expect(run.limit).toBe(STREAM_WINDOW_BYTES);
    second?.leave('detached');
    await clock.settle();
    expect(run.limit).toBe(STREAM_WINDOW_BYTES + 1_000);
    expect(run.cancelled).toBeUndefined();
  });
});

describe('a drain', () => {
  test('refuses what is new and what waits, and ends when what runs has', async () => {
    const { begin, clock, executions } = await createBench({ pool: { min: 1, max: 1 } });
    const first = await begin();
    const waiting = await begin();
    let over = false;
    void executions.drain().then(() => {
      over = true;
    });
    expect(waiting.heard.nack).toBe('draining');
    expect((await begin()).heard.nack).toBe('draining');
    expect(over).toBe(false);
    first.run.started();
    first.run.exit(resultOf());
    await clock.settle();
    expect(over).toBe(true);
  });

  /** An execution that is over, and whose end its reader has not had. */
  async function ending() {
    const { executions, backend, clock } = await createBench();
    const { port } = listen();
    const left = Promise.withResolvers<Left>();
    const start = startBody();
    const input = executions.start(start, { ...port, exit: (_body, onLeft) => left.resolve(onLeft) });
    input?.data(Buffer.from('code'));
    await clock.settle();
    const [run] = backend.made.flatMap(({ runner }) => runner.runs);
    run?.started();
    run?.exit(resultOf());
    return { executions, clock, start, leave: await left.promise };
  }

  /** Whether somebody is still to be told, by one who has waited since. */
  function watchTold({ executions, clock }: { executions: Executions; clock: FakeClock }) {
    const hurry = new AbortController();
    let isTold = false;
    const over = executions.allTold(hurry.signal).then(() => {
      isTold = true;
    });
    const hasUntold = async () => {
      await clock.settle();
      return !isTold;
    };
    return { hasUntold, hurry, over };
  }

  test('has somebody to tell while the end of an execution is on its way', async () => {
    const { leave, ...bench } = await ending();
    const { hasUntold } = watchTold(bench);
    expect(await hasUntold()).toBe(true);
    leave('left');
    expect(await hasUntold()).toBe(false);
  });

  test('waits for nobody to be told once it is to hurry, and leaves no timer', async () => {
    const bench = await ending();
    await bench.clock.settle();
    const { pending } = bench.clock;
    const { hasUntold, hurry, over } = watchTold(bench);
    expect(await hasUntold()).toBe(true);
    hurry.abort();
    await over;
    expect(bench.clock.pending).toBe(pending);
  });

  test.for([
    ['comes again', true],
    ['does not come for 30 s', false],
  ])(
    'has somebody to tell where the end of an execution was lost with its link, until its reader %s',
    async ([, comes]) => {
      const { executions, clock, start, leave } = await ending();
      leave('link_lost');
      const { hasUntold } = watchTold({ executions, clock });
      await clock.advance(ORPHAN_MS - 1);
      expect(await hasUntold()).toBe(true);
      const { port, heard } = listen();
      const from = { offsets: { 1: 0, 2: 0, 3: 0 }, files: 0, pending: 0 };
      if (comes) executions.attach({ execution_id: start.execution_id, reader: null, ...from }, port);
      else await clock.advance(1);
      expect([await hasUntold(), heard.words.includes('EXIT')]).toEqual([false, comes]);
    },
  );

  test('has nobody to tell whose result was acknowledged, before its link was lost or after, nor one who only looked', async () => {
    for (const first of ['leave', 'acknowledge', 'neither']) {
      const { executions, clock, start, leave } = await ending();
      const before = watchTold({ executions, clock });
      if (first === 'acknowledge') executions.acknowledge(start.execution_id);
      leave(first === 'neither' ? 'left' : 'link_lost');
      if (first === 'leave') {
        expect(await before.hasUntold()).toBe(true);
        executions.acknowledge(start.execution_id);
      }
      expect(await before.hasUntold()).toBe(false);
      const onLeft = Promise.withResolvers<Left>();
      const port = { ...listen().port, exit: (_body: ExitBody, left: Left) => onLeft.resolve(left) };
      const from = { offsets: { 1: 0, 2: 0, 3: 0 }, files: 0, pending: 0 };
      executions.attach({ execution_id: start.execution_id, reader: 'r', ...from }, port);
      const { hasUntold } = watchTold({ executions, clock });
      expect(await hasUntold()).toBe(true);
      (await onLeft.promise)('link_lost');
      expect(await hasUntold()).toBe(false);
    }
  });

  test('has somebody to tell for 30 s after the end, whenever the link was lost', async () => {
    const { begin, clock, executions } = await createBench();
    const { run, input } = await begin();
    run.started();
    input?.leave('link_lost');
    await clock.advance(1_000);
    run.exit(resultOf());
    await clock.settle();
    const { hasUntold } = watchTold({ executions, clock });
    await clock.advance(ORPHAN_MS - 1);
    expect(await hasUntold()).toBe(true);
    await clock.advance(1);
    expect(await hasUntold()).toBe(false);
  });

  test('past its deadline ends what runs with the truth about it', async () => {
    const { begin, clock, executions } = await createBench();
    const started = await begin();
    started.run.started();
    await clock.settle();
    const staged = await begin();
    const waiting = await begin();
    executions.killAll(new Failure('draining', 'Over.'));
    expect(started.heard.exit?.failure).toMatchObject({ code: 'draining', started: 'yes' });
    expect(staged.heard.exit?.failure).toMatchObject({ code: 'draining', started: 'unknown' });
    expect(waiting.heard.nack).toBe('draining');
    expect(executions.running()).toBe(0);
  });
});
