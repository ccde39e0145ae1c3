import { defineConfig } from 'vitest/config';
import { createCountingReporter } from './test/reporter.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Tests start processes, send signals and change limits: each file has a process of its own.
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // A machine that is shared may starve a test once; what fails twice is broken. By hand nothing is tried again.
    retry: process.env.CI ? 1 : 0,
    reporters: ['default', createCountingReporter()],
  },
});
