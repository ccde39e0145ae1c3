import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { createKubeClient } from '../../agent/backends/kubernetes/kube-client.ts';
import { loadKubeContexts } from '../../agent/backends/kubernetes/kube-config.ts';
import type { KubernetesBackend } from '../../agent/backends/kubernetes/kubernetes-backend.ts';
import {
  AGENT_RULES,
  type LimitedAccess,
  openFakeCluster,
  type TestCluster,
} from '../contract/kubernetes-cluster.ts';
import type { KubeApi } from '../fakes/kube-api/kube-api.ts';

let cluster: TestCluster;
let fake: KubeApi;
let credential: LimitedAccess;
let backend: KubernetesBackend;

beforeEach(async () => {
  cluster = await openFakeCluster();
  fake = cluster.fake as KubeApi;
  credential = await cluster.limited(AGENT_RULES);
  const access = (await loadKubeContexts(credential.kubeconfig)).access('limited');
  backend = await cluster.backend({ client: createKubeClient(access) });
  onTestFinished(() => cluster[Symbol.asyncDispose]());
});

/** Refuses the first so many execs, and says what else happens with each. */
function refuseExecs(count: number, also: () => void = () => {}): { readonly seen: number } {
  let seen = 0;
  fake.fault = ({ subresource }) => {
    if (subresource !== 'exec') return undefined;
    seen += 1;
    if (seen > count) return undefined;
    also();
    return { status: 401 };
  };
  return {
    get seen() {
      return seen;
    },
  };
}

const make = async () => backend.create(await cluster.template(), AbortSignal.timeout(20_000));

test('an exec that is refused as its credential ends is opened with the next one, into the same pod', async () => {
  const execs = refuseExecs(1, () => {
    void credential.expire();
    void credential.renew();
  });
  const sandbox = await make();
  expect(sandbox.id).toMatch(/^podgate-/);
  // More where the container does not run yet.
  expect(execs.seen).toBeGreaterThan(1);
  expect(fake.counts.get('create pods')).toBe(1);
});

test('an exec that is refused with the next credential too is the cluster’s refusal', async () => {
  const execs = refuseExecs(2);
  await expect(make()).rejects.toMatchObject({ code: 'backend_unavailable', httpStatus: 401 });
  expect(execs.seen).toBe(2);
});
