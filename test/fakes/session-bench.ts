import { createExecutions } from '../../agent/executions/executions.ts';
import type { ExecutionPort } from '../../agent/executions/port.ts';
import type { SessionReport } from '../../agent/sessions/session-report.ts';
import type { StartBody } from '../../shared/messages.ts';
import { createFakeBackend } from './fake-backend.ts';
import { createFakeClock } from './fake-clock.ts';
import { type FakeRun, resultOf } from './fake-runner.ts';
import { createQuietPool } from './quiet-pool.ts';
import { START } from './start-body.ts';

/** A link that leaves what it is told alone. */
export const NOBODY: ExecutionPort & { taking(): void; inputOver(): void } = {
  link: {},
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

type OpenSession = Extract<NonNullable<StartBody['session']>, { do: 'open' }>;

/** Sessions in sandboxes that do what the test says. */
export async function createSessionBench(sandboxes: number, reconnects = false) {
  const clock = createFakeClock();
  const backend = createFakeBackend({ reconnects });
  const known = new Set<FakeRun>();
  const reports: SessionReport[] = [];
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
    onSession: (report) => reports.push(report),
    onChange: () => {},
  });
  let count = 0;
  const start = async (principal: string, session: NonNullable<StartBody['session']>, bytes = 1_000) => {
    count += 1;
    let answer = 'none';
    const words: string[] = [];
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
    const input = executions.start(body, {
      ...NOBODY,
      accept: () => {
        answer = 'accepted';
      },
      nack: (code) => {
        answer = code;
      },
      started: () => words.push('STARTED'),
      data: (channel) => words.push(`DATA ${channel}`),
      fileEnd: () => words.push('END'),
      exit: ({ failure }) => words.push(`EXIT ${failure?.code}`),
    });
    await clock.settle();
    const run = backend.made.flatMap(({ runner }) => runner.runs).find((one) => !known.has(one));
    if (run) known.add(run);
    return { answer, words, input, run: run as FakeRun, id: body.execution_id };
  };
  return {
    clock,
    backend,
    executions,
    reports,
    begin: start,
    async open(principal: string, id: string, times: Partial<OpenSession> = {}) {
      const { run } = await start(principal, {
        do: 'open',
        id,
        ttl_ms: 86_400_000,
        idle_ms: null,
        ceiling: null,
        ...times,
      });
      run.started();
      run.exit(resultOf());
      await clock.settle();
    },
    bash: (principal: string, id: string) => start(principal, { do: 'bash', id }),
    terminal: (principal: string, id: string, name: string, bytes?: number) =>
      start(principal, { do: 'terminal', id, name, rows: 24, columns: 80 }, bytes),
  };
}
