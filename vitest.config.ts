import { defineConfig } from 'vitest/config';
import { createCountingReporter } from './test/reporter.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Tests start processes, send signals and change limits: each file has a process of its own.
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 30_000,
    reporters: ['default', createCountingReporter()],
  },
});
