import { writeFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { createPod } from '../../../agent/backends/kubernetes/create-pod.ts';
import {
  type Call,
  createKubeClient,
  type KubeClient,
  REQUEST_TIMEOUT_MS,
} from '../../../agent/backends/kubernetes/kube-client.ts';
import { loadKubeContexts } from '../../../agent/backends/kubernetes/kube-config.ts';
import { createPodRemoval } from '../../../agent/backends/kubernetes/pod-removal.ts';
import { Failure } from '../../../shared/errors.ts';
import { createFakeClock } from '../../fakes/fake-clock.ts';
import { openKubeFolder } from '../../fakes/kube-api/kube-folder.ts';

/** What one admission webhook may take: twice what a call has. */
const WEBHOOK_MS = 30_000;
const { api, newFile } = await openKubeFolder();

/** A cluster in which each call of one kind takes so long: who gives it less has no answer. */
function slowCluster(method: Call['method'], tookMs: number) {
  const clock = createFakeClock();
  const timeouts: number[] = [];
  async function call(wanted: Call): Promise<unknown> {
    if (wanted.method !== method) return {};
    const timeoutMs = wanted.timeoutMs ?? REQUEST_TIMEOUT_MS;
    timeouts.push(timeoutMs);
    if (timeoutMs < tookMs) throw new Failure('backend_unavailable', 'It did not answer in time.');
    return { metadata: { name: 'one' } };
  }
  const client = { call } as unknown as KubeClient;
  return { deps: { client, namespace: 'sandboxes', clock, random: () => 1, log: () => {} }, clock, timeouts };
}

test('a pod is made where the admission of pods takes longer than a call may', async () => {
  const { deps, clock, timeouts } = slowCluster('POST', WEBHOOK_MS);
  const made = createPod(deps, { metadata: { name: 'one' } }, new AbortController().signal);
  await clock.advance(10_000);
  await expect(made).resolves.toMatchObject({ metadata: { name: 'one' } });
  // The first may hang on a dead connection, and another try finds that out.
  expect(timeouts[0]).toBe(REQUEST_TIMEOUT_MS);
});

test('a pod is deleted where the admission of deletions takes longer than a call may', async () => {
  const { deps, clock, timeouts } = slowCluster('DELETE', WEBHOOK_MS);
  const { remove } = createPodRemoval({ ...deps, signal: new AbortController().signal });
  const removed = remove({ name: 'one' });
  await clock.advance(10_000);
  await removed;
  expect(timeouts).toHaveLength(2);
});

test('a server that does not answer in time is said not to', async () => {
  api.fault = () => ({ hang: true });
  const path = newFile();
  writeFileSync(path, api.kubeconfig());
  const access = (await loadKubeContexts(path)).access('fake');
  onTestFinished(() => access.close());
  const call = { method: 'GET', path: '/api/v1/namespaces/default/pods', timeoutMs: 100 } as const;
  await expect(createKubeClient(access).call(call)).rejects.toMatchObject({
    code: 'backend_unavailable',
    detail: expect.stringMatching(/did not answer in time\.$/),
  });
});
