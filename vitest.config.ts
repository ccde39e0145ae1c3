import { availableParallelism } from 'node:os';
import { configDefaults, defineConfig } from 'vitest/config';
import { findEngine } from './test/fakes/find-engine.ts';
import { createCountingReporter } from './test/reporter.ts';
import { LongestFirst } from './test/sequencer.ts';

const engine = await findEngine();

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...('trouble' in engine ? ['test/docker/**'] : [])],
    env:
      'trouble' in engine
        ? { PODGATE_TEST_DOCKER_TROUBLE: engine.trouble }
        : { PODGATE_TEST_DOCKER_HOST: engine.host, PODGATE_TEST_DOCKER_IMAGE: engine.image },
    // Tests start processes, send signals and change limits: each file has a process of its own.
    pool: 'forks',
    // Most of a test's time is spent waiting: on two processors, too, two files run side by side. Three took as long, and
    // some waited too long for their turn.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    sequence: { sequencer: LongestFirst },
    // Ends what hangs, and is no bar: the longest test that names no time of its own takes 30 s, 43 s on a busy machine.
    testTimeout: 90_000,
    hookTimeout: 90_000,
    // No bar either: what is polled is on its way in another process, which waits for its turn on a busy machine.
    expect: { poll: { timeout: 15_000 } },
    // A machine that is shared may starve a test once; what fails twice is broken. By hand nothing is tried again.
    retry: process.env.CI ? 1 : 0,
    reporters: ['default', createCountingReporter()],
  },
});
