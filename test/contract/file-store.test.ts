import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { openFolderFileStore } from '../../gateway/node/folder-file-store.ts';
import { createMemoryFileStore } from '../fakes/memory-file-store.ts';
import { describeFileStore } from './file-store.ts';

describeFileStore('memory', async (limits, now) => {
  const store = createMemoryFileStore(limits, now);
  return { store, sweep: () => store.sweep() };
});

describeFileStore('folder', async (limits, now) => {
  const directory = await mkdtemp(join(tmpdir(), 'podgate-files-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const store = await openFolderFileStore({ directory, limits, now });
  return { store, sweep: store.sweep };
});
