import { expect, test } from 'vitest';
import { createExecutions } from '../../agent/executions/executions.ts';
import type { ExecutionPort } from '../../agent/executions/port.ts';
import {
  MAX_TERMINAL_OUTPUT_BYTES,
  MAX_TERMINALS,
  MAX_TERMINALS_PER_PRINCIPAL,
  TERMINAL_IDLE_MS,
} from '../../shared/limits.ts';
import type { StartBody } from '../../shared/messages.ts';
import { createFakeBackend } from '../fakes/fake-backend.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';
import { type FakeRun, resultOf } from '../fakes/fake-runner.ts';
import { createQuietPool } from '../fakes/quiet-pool.ts';
import { START } from '../fakes/start-body.ts';

const NOBODY: ExecutionPort & { taking(): void; inputOver(): void } = {
  accept() {},
  nack() {},
  started() {},
  attached() {},
  gap() {},
  close() {},
  data() {},
  fileEnd() {},
  exit() {},
  consumed() {},
  taking() {},
  inputOver() {},
};

/** Sessions and terminals in sandboxes that do what the test says. */
async function createBench(sandboxes: number) {
  const clock = createFakeClock();
  const backend = createFakeBackend();
  const known = new Set<FakeRun>();
  backend.onRunner = (runner) => {
    runner.onRun = () => {};
  };
  const pool = await createQuietPool(backend, clock, {
    languages: ['python', 'bash'],
    pool: { min: sandboxes, max: sandboxes },
  });
  const executions = createExecutions({
    clock,
    policy: { maxOutputBytes: 1_000, hasCluster: () => true, findPool: () => pool },
    onReport: () => {},
    onChange: () => {},
  });
  let count = 0;
  const start = async (principal: string, session: NonNullable<StartBody['session']>, bytes = 1_000) => {
    count += 1;
    let answer = 'none';
    const body: StartBody = {
      ...START,
      execution_id: `e${count}`,
      principal,
      holder: principal,
      language: 'bash',
      sizes: { ...START.sizes, code: 0 },
      limits: { ...START.limits, max_output_bytes: bytes },
      detach: true,
      session,
    };
    executions.start(body, {
      ...NOBODY,
      accept: () => {
        answer = 'accepted';
      },
      nack: (code) => {
        answer = code;
      },
    });
    await clock.settle();
    const run = backend.made.flatMap(({ runner }) => runner.runs).find((one) => !known.has(one));
    if (run) known.add(run);
    return { answer, run: run as FakeRun, id: body.execution_id };
  };
  return {
    clock,
    executions,
    async open(principal: string, id: string) {
      const { run } = await start(principal, {
        do: 'open',
        id,
        ttl_ms: 86_400_000,
        idle_ms: null,
        ceiling: null,
      });
      run.started();
      run.exit(resultOf());
      await clock.settle();
    },
    terminal: (principal: string, id: string, name: string, bytes?: number) =>
      start(principal, { do: 'terminal', id, name, rows: 24, columns: 80 }, bytes),
  };
}

test('MAX_TERMINALS_PER_PRINCIPAL are open at once in all sessions of a principal, and one more is refused', async () => {
  const sessions = MAX_TERMINALS_PER_PRINCIPAL / MAX_TERMINALS;
  const { clock, open, terminal } = await createBench(sessions + 2);
  let last: FakeRun | undefined;
  for (let session = 0; session < sessions; session += 1) {
    await open('acme/alice', `s${session}`);
    for (let index = 0; index < MAX_TERMINALS; index += 1) {
      const begun = await terminal('acme/alice', `s${session}`, `t${index}`);
      expect(begun.answer).toBe('accepted');
      begun.run.started();
      last = begun.run;
    }
  }
  await open('acme/alice', 'more');
  await open('acme/bob', 'other');
  expect((await terminal('acme/alice', 'more', 't')).answer).toBe('rate_limited');
  expect((await terminal('acme/bob', 'other', 't')).answer).toBe('accepted');
  last?.exit(resultOf());
  await clock.settle();
  expect((await terminal('acme/alice', 'more', 't')).answer).toBe('accepted');
});

test('a terminal that nobody uses is ended after TERMINAL_IDLE_MS, counted from what was typed last', async () => {
  const { clock, executions, open, terminal } = await createBench(1);
  await open('acme/alice', 's');
  const { run, id } = await terminal('acme/alice', 's', 't');
  run.started();
  await clock.advance(TERMINAL_IDLE_MS - 1);
  expect(run.cancelled).toBeUndefined();
  const typing = executions.feed({ execution_id: id, writer: 'w' }, NOBODY);
  typing?.data(Buffer.from('x'));
  typing?.leave('detached');
  await clock.advance(TERMINAL_IDLE_MS - 1);
  expect(run.cancelled).toBeUndefined();
  await clock.advance(1);
  expect(run.cancelled).toBe('idle');
});

test('a terminal shows as much as it is asked to, and MAX_TERMINAL_OUTPUT_BYTES at most', async () => {
  const { open, terminal } = await createBench(1);
  await open('acme/alice', 's');
  for (const [asked, given] of [
    [MAX_TERMINAL_OUTPUT_BYTES - 1, MAX_TERMINAL_OUTPUT_BYTES - 1],
    [MAX_TERMINAL_OUTPUT_BYTES, MAX_TERMINAL_OUTPUT_BYTES],
    [MAX_TERMINAL_OUTPUT_BYTES + 1, MAX_TERMINAL_OUTPUT_BYTES],
  ] as const) {
    const { run } = await terminal('acme/alice', 's', `t${asked % 10}`, asked);
    expect(run.body.limits.max_output_bytes).toBe(given);
  }
});
