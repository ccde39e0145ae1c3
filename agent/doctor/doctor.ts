import { Failure } from '../../shared/errors.ts';
import type { Template } from '../../shared/template.ts';
import { createKubeClient, type KubeClient } from '../backends/kubernetes/kube-client.ts';
import type { KubeAccess } from '../backends/kubernetes/kube-config.ts';
import { isRefused, KubeRefusal } from '../backends/kubernetes/kube-failure.ts';
import { createKubernetesBackend } from '../backends/kubernetes/kubernetes-backend.ts';
import type { CanaryTargets } from '../canary/targets.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Check } from './check.ts';
import { checkIsolation } from './isolation-check.ts';
import { lookForDoctors } from './killed-doctors.ts';
import { checkQuota } from './quota-check.ts';
import { checkRights } from './rights-check.ts';
import { checkSandbox } from './sandbox-check.ts';
import { wordsBehind } from './words-behind.ts';

/** Clocks that differ by less are as good as one; by more, tokens and certificates end early. */
export const SKEW_OK_MS = 5_000;
export const SKEW_FAIL_MS = 60_000;

export type DoctorDeps = {
  /** Throws a Failure that says why the context cannot be used. */
  access: () => KubeAccess;
  /** The configured one; else the context's, else `default`. */
  namespace: string | undefined;
  templates: readonly Template[];
  targets: CanaryTargets;
  /** Names what is made for the examination, so that no agent takes it for its own. */
  instance: string;
  clock: Clock;
  random: () => number;
  log: Log;
  signal: AbortSignal;
};

/** Looks at one cluster as an agent would use it, step by step. What it makes there is gone at its end. */
export async function* examine(deps: DoctorDeps): AsyncGenerator<Check> {
  let client: KubeClient;
  try {
    client = createKubeClient(deps.access());
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    yield { name: 'context', state: 'fail', detail: cause.detail };
    return;
  }
  const namespace = deps.namespace ?? client.access.namespace ?? 'default';
  try {
    yield* examineCluster(deps, client, namespace);
  } catch (cause) {
    deps.signal.throwIfAborted();
    if (!(cause instanceof Failure)) throw cause;
    const advice = adviceFor(cause, client.access, namespace);
    yield { name: aboutOf(cause), state: 'fail', detail: cause.detail, advice };
  } finally {
    client.access.close();
  }
}

/** Which of all that an agent needs it is that failed. */
function aboutOf(failure: Failure): string {
  if (!(failure instanceof KubeRefusal)) return 'api server';
  if (failure.httpStatus === 401) return 'credential';
  return isNamespaceMissing(failure) ? 'namespace' : 'sandboxes';
}

function adviceFor(failure: Failure, access: KubeAccess, namespace: string): readonly string[] {
  if (isNamespaceMissing(failure))
    return [
      `Make it (kubectl create namespace ${namespace}), or set KUBERNETES_NAMESPACE to one that is there.`,
    ];
  if (failure instanceof KubeRefusal) return wordsBehind(failure);
  const way = access.isProxied ? ', through a proxy' : '';
  return [...wordsBehind(failure), `The context's server is ${access.server}${way}.`];
}

function isNamespaceMissing(failure: Failure): boolean {
  return isRefused(failure, 404) && /^namespaces "/.test(failure.words);
}

async function* examineCluster(
  deps: DoctorDeps,
  client: KubeClient,
  namespace: string,
): AsyncGenerator<Check> {
  const { clock, templates } = deps;
  const askedMs = clock.now();
  const version = await readVersion(client);
  const tookMs = Math.round(clock.now() - askedMs);
  const what = version === '' ? "its version is nobody's to read" : `Kubernetes ${version}`;
  yield { name: 'api server', state: 'ok', detail: `${what}, answers in ${tookMs} ms` };
  yield clockCheck(client.serverDate, clock.wall());
  let lacks = false;
  for await (const check of checkRights(client, { namespace, version })) {
    lacks ||= check.state === 'fail';
    yield check;
  }
  yield await checkQuota(client, { namespace, templates });
  if (lacks)
    yield {
      name: 'sandboxes',
      state: 'unknown',
      detail: 'none is made before the agent has its rights: add the rules and ask again',
    };
  else yield* examineSandboxes(deps, client, namespace);
}

/** Empty where the cluster lets nobody read it: agents need not. */
async function readVersion(client: KubeClient): Promise<string> {
  try {
    const call = { method: 'GET', path: '/version' } as const;
    return (await client.call<{ gitVersion?: string }>(call)).gitVersion ?? '';
  } catch (cause) {
    if (cause instanceof KubeRefusal && cause.httpStatus !== 401) return '';
    throw cause;
  }
}

async function* examineSandboxes(
  deps: DoctorDeps,
  client: KubeClient,
  namespace: string,
): AsyncGenerator<Check> {
  const { clock, signal, templates, targets, log, instance } = deps;
  const installation = instance;
  const removeKilled = await lookForDoctors({ client, namespace, clock, signal });
  const backend = await createKubernetesBackend({ ...deps, client, namespace, installation });
  try {
    for (const template of templates) {
      let runs = true;
      for await (const check of checkSandbox({ backend, clock, signal }, template)) {
        runs &&= check.state !== 'fail';
        yield check;
      }
      if (runs) yield* checkIsolation({ backend, targets, clock, log }, { template, signal });
    }
    yield* removeKilled();
  } finally {
    await backend.close();
  }
}

/** `date` is the server's, in whole seconds. */
export function clockCheck(date: string | undefined, wallMs: number): Check {
  const name = 'clock';
  const serverMs = Date.parse(date ?? '');
  if (Number.isNaN(serverMs))
    return { name, state: 'unknown', detail: 'the API server does not say its time' };
  const aheadMs = wallMs - (serverMs + 500);
  const apartMs = Math.abs(aheadMs);
  const apart = `${(apartMs / 1000).toFixed(1)} s`;
  if (apartMs < SKEW_OK_MS) return { name, state: 'ok', detail: `${apart} apart from the API server's` };
  const detail = `this machine's is ${apart} ${aheadMs > 0 ? 'ahead of' : 'behind'} the API server's`;
  const advice = ["Set this machine's clock, or the control plane's, by NTP."];
  return { name, state: apartMs < SKEW_FAIL_MS ? 'warn' : 'fail', detail, advice };
}
