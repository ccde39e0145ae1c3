import { createLocalBackend } from '../../agent/backends/local/local-backend.ts';
import { systemClock } from '../../agent/clock.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import { parseTemplate } from '../../shared/template.ts';
import { strays } from '../contract/strays.ts';
import { runOn } from './runner-run.ts';

/** An agent's process to be killed: starts the program of strays.ts in one sandbox of each kind, then says so. */
const [marker = ''] = process.argv.slice(2);
const backend = await createLocalBackend({
  instance: 'to-be-killed',
  path: '/usr/bin',
  unsafe: false,
  clock: systemClock,
  log: () => {},
});
for (const reuse of ['single_use', 'reset'] as const) {
  const signal = AbortSignal.timeout(60_000);
  const sandbox = await backend.create(await parseTemplate({ name: 'killed', reuse }), signal);
  const client = createRunnerClient({ stream: await backend.connect(sandbox, signal), epoch: 1 });
  await client.ready;
  const began = Promise.withResolvers<void>();
  runOn(client, 1, strays(marker), { onData: () => began.resolve() }).catch(() => {});
  await began.promise;
}
process.stdout.write('begun\n');
