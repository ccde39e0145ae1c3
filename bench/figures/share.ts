import { randomUUID } from 'node:crypto';
import { createLocalBackend } from '../../agent/backends/local/local-backend.ts';
import { systemClock } from '../../agent/clock.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import { parseTemplate } from '../../shared/template.ts';
import { startFront } from '../processes.ts';
import { ms, type Row } from '../row.ts';
import { PYTHON } from '../spawn-baseline.ts';
import { interleaved, p50 } from '../stats.ts';
import { warmUp } from '../warm-up.ts';

const ROUNDS = 300;
const TEMPLATES = `
templates:
  - {name: reset, python: ${PYTHON}, reuse: reset, pool: {min: 1, max: 1}}
`;

/** What HTTP, gateway, link and the agent's bookkeeping add to an execution asked of a runner directly; reuse mode reset. */
export async function share(): Promise<Row[]> {
  await using front = await startFront({ templates: TEMPLATES, warm: ['reset'] });
  await using direct = await openDirect();
  const through = () => front.client.post('/v1/execute', { code: 'print(1)', template: 'reset' });
  await warmUp(async () => {
    await through();
    await direct.run();
  });
  const samples = await interleaved(ROUNDS, through, direct.run, 1);
  const figure = p50(samples.figure);
  const baseline = p50(samples.baseline);
  return [
    {
      name: 'share of gateway and link',
      figure: `${ms(figure)} p50 through the front door, reset`,
      baseline: `${ms(baseline)} asked directly`,
      value: figure - baseline,
    },
  ];
}

async function openDirect() {
  const backend = await createLocalBackend({
    instance: randomUUID(),
    path: process.env.PATH ?? '',
    unsafe: false,
    clock: systemClock,
    log: () => undefined,
  });
  const template = await parseTemplate({ name: 'reset', python: PYTHON, reuse: 'reset' });
  const sandbox = await backend.create(template, AbortSignal.timeout(30_000));
  const stream = await backend.connect(sandbox, AbortSignal.timeout(30_000));
  const client = createRunnerClient({ stream, epoch: 1 });
  await client.ready;
  const manifest = new TextEncoder().encode('{"args":[],"env":{},"files":[]}');
  const code = new TextEncoder().encode('print(1)');
  const limits = {
    timeout_ms: 5_000,
    max_output_bytes: 1_000_000,
    memory_bytes: 268_435_456,
    cpu_seconds: 5,
    output_limit_bytes: null,
  };
  let stream_id = 0;
  return {
    run: () =>
      new Promise<void>((resolve, reject) => {
        stream_id += 1;
        const sizes = { manifest: manifest.length, code: code.length, stdin: null, files: 0 };
        const ignore = () => undefined;
        const execution = client.start(
          stream_id,
          {
            language: 'python',
            last_line_interactive: true,
            traceparent: null,
            sizes,
            limits,
            collect: true,
          },
          {
            started: ignore,
            data: ignore,
            fileEnd: ignore,
            inputWindow: ignore,
            exit: ({ result }) =>
              result?.exit_code === 0 ? resolve() : reject(new Error('the program failed')),
            lost: reject,
          },
        );
        execution.write(manifest);
        execution.write(code);
      }),
    async [Symbol.asyncDispose]() {
      client.close();
      await backend.close();
    },
  };
}
