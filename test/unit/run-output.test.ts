import { expect, test } from 'vitest';
import type { Caller } from '../../gateway/auth/caller.ts';
import { RunOutput, type RunOutputOptions } from '../../gateway/execution/run-output.ts';
import { createMemoryFileStore } from '../fakes/memory-file-store.ts';
import { RESULT } from '../fakes/mock-agent.ts';

const SHA = '0'.repeat(64);

test('that is stored by somebody else, who gives it up, names its files as not stored', async () => {
  const fileStore = createMemoryFileStore({ maxFileBytes: 100, maxTotalBytes: 100 } as never, () => 0);
  const output = new RunOutput({
    fileStore,
    config: { maxFileBytes: 100 } as RunOutputOptions['config'],
    caller: {} as Caller,
    timers: globalThis,
    maxOutputBytes: 100,
    document: 'before_files',
    isStoring: false,
    keep() {},
    consumed() {},
    stalled() {},
    dismissed() {},
  });
  expect(output.endFile({ path: 'results', size: 0, sha256: SHA })).toBe(true);
  expect(output.hasFiles).toBe(false);
  expect(output.endFile({ path: 'plot.png', size: 0, sha256: SHA })).toBe(true);
  expect(output.hasFiles).toBe(true);
  const omitted = { path: 'huge', reason: 'too_large' };
  const result = { ...RESULT, files_omitted: [omitted], files_omitted_count: 1 };
  expect(await output.settle(result)).toMatchObject({
    files: [],
    filesOmitted: [{ path: 'plot.png', reason: 'not_stored' }, omitted],
    filesOmittedCount: 2,
  });
});
