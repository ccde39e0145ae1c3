import { clusterName } from '../../../shared/cluster-name.ts';
import { Failure } from '../../../shared/errors.ts';
import { contextNames } from './context-names.ts';

/** In the cluster that the agent itself runs in, this stands for the context's name. */
export const IN_CLUSTER_CONTEXT = 'inClusterContext';

/** One context, and the cluster's name that it is served under. */
export type ClusterContext = { readonly cluster: string; readonly context: string };

export type ContextChoice = {
  /** Every context of the kubeconfig, and the one that counts without a choice. */
  names: readonly string[];
  current: string;
  /** `KUBE_CONTEXTS`: `context`, `name=context`, `*`; undefined: the current one. */
  wanted: readonly string[] | undefined;
  /** `PODGATE_CLUSTER`: the name of the only cluster. */
  cluster: string | undefined;
  /** For messages: the kubeconfig's path. */
  where: string;
};

/**
 * The clusters that an agent serves. A context that is not there is kept: only its own cluster cannot serve. Throws a
 * Failure (`invalid_request`) for names that do not fit or come twice.
 */
export function chooseContexts(choice: ContextChoice): ClusterContext[] {
  const { names, current, wanted, cluster, where } = choice;
  if (wanted === undefined && current === '')
    throw refusal(
      `${where} has no current context: set KUBE_CONTEXTS to one of ${contextNames(names)}, or to *.`,
    );
  const chosen = (wanted ?? [current]).flatMap((text) => expand(text, names));
  const renamed = new Set(chosen.filter((each) => each.renamed).map(({ context }) => context));
  // `*` and `name=context` together: the name that was given counts.
  const asked = chosen.filter((each) => !each.fromAll || !renamed.has(each.context));
  if (asked.length === 0) throw refusal(`KUBE_CONTEXTS names no context of ${where}.`);
  const only = asked.length === 1 ? asked[0] : undefined;
  if (only && !only.renamed && cluster !== undefined) return [{ cluster, context: only.context }];
  if (only?.context === IN_CLUSTER_CONTEXT && !only.renamed)
    throw refusal(
      'PODGATE_CLUSTER is not set: use the name by which callers pick the cluster that the agent runs in.',
    );
  const seen = new Map<string, string>();
  for (const { name, context } of asked) {
    if (!clusterName.safeParse(name).success)
      throw refusal(
        `The context '${context}' of ${where} has a name that no cluster can have (1 to 63 of a-z, 0-9 and -). ` +
          `Rename it: KUBE_CONTEXTS=${suggestion(name)}=${context}.`,
      );
    const other = seen.get(name);
    if (other !== undefined && other !== context)
      throw refusal(
        `The contexts '${other}' and '${context}' of ${where} are both to be the cluster '${name}'.`,
      );
    seen.set(name, context);
  }
  return [...seen].map(([name, context]) => ({ cluster: name, context }));
}

type Asked = { name: string; context: string; renamed: boolean; fromAll: boolean };

function expand(text: string, names: readonly string[]): Asked[] {
  if (text === '*') return names.map((name) => ({ name, context: name, renamed: false, fromAll: true }));
  const at = text.indexOf('=');
  // A context's own name may hold an equals sign.
  if (at < 0 || names.includes(text)) return [{ name: text, context: text, renamed: false, fromAll: false }];
  return [{ name: text.slice(0, at), context: text.slice(at + 1), renamed: true, fromAll: false }];
}

function suggestion(name: string): string {
  const fit = name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(-63);
  return clusterName.safeParse(fit).success ? fit : 'NAME';
}

function refusal(detail: string): Failure {
  return new Failure('invalid_request', detail);
}
