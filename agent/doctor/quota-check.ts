import type { Template } from '../../shared/template.ts';
import type { KubeClient } from '../backends/kubernetes/kube-client.ts';
import { KubeRefusal } from '../backends/kubernetes/kube-failure.ts';
import type { ObjectList } from '../backends/kubernetes/kube-objects.ts';
import { podResources } from '../backends/kubernetes/pod-spec.ts';
import { parseQuantity } from '../backends/kubernetes/quantity.ts';
import { CANARIES_AT_ONCE } from '../canary/canary.ts';
import type { Check } from './check.ts';
import { countsSandboxes, type QuotaScopes } from './quota-scopes.ts';
import { ruleText } from './rights-check.ts';

/** Beside the pool's: each canary has two at most beside what it borrows, and one of its own. */
const CANARY_PODS = 3 * CANARIES_AT_ONCE;

/** A quota's other names for what it counts. */
const SHORT_NAMES = {
  'count/pods': 'pods',
  cpu: 'requests.cpu',
  memory: 'requests.memory',
  'ephemeral-storage': 'requests.ephemeral-storage',
} as const;

type Amounts = Readonly<Record<string, string>>;
type Quota = {
  metadata?: { name?: string };
  status?: { hard?: Amounts; used?: Amounts };
  spec?: { hard?: Amounts } & QuotaScopes;
};

/** What all pools and their canaries need at their largest, by a quota's names. */
export function wantedOf(templates: readonly Template[]): Readonly<Record<string, number>> {
  if (templates.length === 0) return {};
  const wanted: Record<string, number> = { pods: CANARY_PODS };
  const add = (name: string, amount: number) => {
    wanted[name] = (wanted[name] ?? 0) + amount;
  };
  for (const template of templates) {
    const { max } = template.pool;
    add('pods', max);
    const { requests = {}, limits = {} } = podResources(template);
    for (const [kind, amounts] of [
      ['requests', requests],
      ['limits', limits],
    ] as const)
      for (const [name, text] of Object.entries(amounts)) add(`${kind}.${name}`, max * parseQuantity(text));
  }
  for (const [short, name] of Object.entries(SHORT_NAMES)) wanted[short] = wanted[name] ?? 0;
  return wanted;
}

/** Whether the namespace's quotas have room for the pools. */
export async function checkQuota(
  client: KubeClient,
  { namespace, templates }: { namespace: string; templates: readonly Template[] },
): Promise<Check> {
  const name = 'quota';
  let quotas: readonly Quota[];
  try {
    const path = `/api/v1/namespaces/${namespace}/resourcequotas`;
    quotas = (await client.call<ObjectList<Quota>>({ method: 'GET', path })).items ?? [];
  } catch (cause) {
    if (!(cause instanceof KubeRefusal)) throw cause;
    if (cause.right === undefined) return { name, state: 'unknown', detail: cause.detail };
    const detail = 'The agent may not read quotas, and need not; with this rule they are checked:';
    return {
      name,
      state: 'unknown',
      detail,
      advice: ruleText({ ...cause.right, verbs: [cause.right.verb] }),
    };
  }
  const short = quotas.flatMap((quota) => shortOf(quota, templates));
  if (short.length > 0)
    return {
      name,
      state: 'warn',
      detail: 'The pools cannot fill. Raise it, or lower pool.max:',
      advice: short,
    };
  if (quotas.length === 0) return { name, state: 'ok', detail: `namespace ${namespace} has no quota` };
  const { pods } = wantedOf(templates);
  return { name, state: 'ok', detail: `room for ${pods} pods, those of canaries among them` };
}

/** What a quota has too little of, a line each. */
function shortOf({ metadata, status, spec = {} }: Quota, templates: readonly Template[]): string[] {
  const wanted = wantedOf(templates.filter((template) => countsSandboxes(spec, template)));
  return Object.entries(status?.hard ?? spec.hard ?? {})
    .filter(([key, hard]) => (wanted[key] ?? 0) > parseQuantity(hard))
    .map(
      ([key, hard]) =>
        `${metadata?.name}: ${key} is ${hard} (${status?.used?.[key] ?? '0'} used), pools and canaries want up to ${amountText(key, wanted[key] ?? 0)}`,
    );
}

function amountText(key: string, amount: number): string {
  return /memory|storage/.test(key)
    ? `${Math.ceil(amount / 2 ** 20)}Mi`
    : String(Math.ceil(amount * 1000) / 1000);
}
