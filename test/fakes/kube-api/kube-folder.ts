import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { createKubeApi, type KubeApi } from './kube-api.ts';

/** An API server and a folder for kubeconfigs, for the tests of one file. */
export type KubeFolder = { readonly api: KubeApi; readonly folder: string; newFile(): string };

/** To be called outside of any test: both are gone when the file's tests are over. */
export async function openKubeFolder(): Promise<KubeFolder> {
  const api = await createKubeApi();
  const folder = mkdtempSync(join(tmpdir(), 'podgate-kubeconfigs-'));
  let files = 0;
  afterAll(async () => {
    await api[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });
  return {
    api,
    folder,
    newFile() {
      files += 1;
      return join(folder, `file-${files}`);
    },
  };
}
