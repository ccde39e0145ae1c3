import type { Template } from '../../shared/template.ts';

type Expression = { scopeName?: string; operator?: string; values?: readonly string[] };

/** Which pods of a namespace a quota counts; all of them where it says nothing. */
export type QuotaScopes = {
  scopes?: readonly string[];
  scopeSelector?: { matchExpressions?: readonly Expression[] };
};

/** Sandboxes have a deadline and resources; see pod-spec.ts. */
const COUNTS_SANDBOXES: Readonly<Record<string, boolean>> = {
  Terminating: true,
  NotTerminating: false,
  BestEffort: false,
  NotBestEffort: true,
};

/** Whether a quota of these scopes counts the template's sandboxes. */
export function countsSandboxes({ scopes = [], scopeSelector }: QuotaScopes, template: Template): boolean {
  const expressions: readonly Expression[] = [
    ...scopes.map((scopeName) => ({ scopeName, operator: 'Exists' })),
    ...(scopeSelector?.matchExpressions ?? []),
  ];
  return expressions.every((expression) => matches(expression, template.kubernetes));
}

function matches(
  { scopeName = '', operator, values = [] }: Expression,
  { priority_class, affinity }: Template['kubernetes'],
): boolean {
  if (scopeName === 'CrossNamespacePodAffinity') return affinity !== undefined;
  if (scopeName !== 'PriorityClass') return COUNTS_SANDBOXES[scopeName] ?? true;
  const isNamed = priority_class !== undefined && values.includes(priority_class);
  switch (operator) {
    case 'In':
      return isNamed;
    case 'NotIn':
      return !isNamed;
    case 'DoesNotExist':
      return priority_class === undefined;
    default:
      return priority_class !== undefined;
  }
}
