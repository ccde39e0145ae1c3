import type { Clock } from '../../clock.ts';
import { createListeners } from '../../listeners.ts';
import type { Log } from '../../log.ts';

/** What one rule of a Role allows; `pods/exec` as rules have it. */
export type Right = {
  readonly verb: string;
  /** Empty for the core group. */
  readonly group: string;
  readonly resource: string;
  /** Undefined where it is about the whole cluster. */
  readonly namespace: string | undefined;
  /** Its Role allows it, and an admission policy does not. */
  readonly byPolicy?: boolean;
};

/** A refusal is believed for so long: a rule that was added is found by trying again. */
export const REFUSED_FOR_MS = 60_000;

const PATH =
  /^\/(?:api\/v1|apis\/([^/]+)\/v\d\w*)(?:\/namespaces\/([^/]+)(?=\/[^/]))?\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/;
const VERBS: Readonly<Record<string, string>> = { POST: 'create', PUT: 'update', DELETE: 'delete' };

/** What a request asks for, as the API server's authorizer sees it. Undefined for what belongs to no resource. */
export function rightOf(call: { method: string; path: string; isWatch?: boolean }): Right | undefined {
  const match = PATH.exec(call.path);
  if (!match) return undefined;
  const [, group = '', namespace, plain = '', name, sub] = match;
  const reads = name !== undefined ? 'get' : call.isWatch ? 'watch' : 'list';
  const resource = sub === undefined ? plain : `${plain}/${sub}`;
  return { verb: VERBS[call.method] ?? reads, group, resource, namespace };
}

/** `create pods/exec`, `update leases (coordination.k8s.io)`. */
export function rightText({ verb, group, resource }: Right): string {
  return `${verb} ${resource}${group === '' ? '' : ` (${group})`}`;
}

/** A sentence for rights of one place, or two: what a Role lacks is said apart from what a policy refuses. */
export function lackText(rights: readonly Right[]): string {
  const ofRole = rights.filter(({ byPolicy }) => !byPolicy);
  const ofPolicy = rights.filter(({ byPolicy }) => byPolicy);
  const rules = ofRole.length > 1 ? 'those rules' : 'that rule';
  return [sentence(ofRole, `its Role lacks ${rules}`), sentence(ofPolicy, 'an admission policy refuses it')]
    .filter(Boolean)
    .join(' ');
}

function sentence(rights: readonly Right[], why: string): string {
  if (rights.length === 0) return '';
  const namespace = rights[0]?.namespace;
  const where = namespace === undefined ? 'the cluster' : `namespace ${namespace}`;
  return `The agent may not ${rights.map(rightText).join(', ')} in ${where}: ${why}.`;
}

/** What the API server refused for want of a rule, or by a policy, until it lets it through. */
export type RightsBook = {
  refused(right: Right): void;
  /** It was let through, whatever became of it. */
  allowed(right: Right): void;
  /** Refused lately. */
  lacks(verb: string, resource: string): boolean;
  /** Calls back when a right is missing that was not, or the other way round. Returns how to stop. */
  onChange(listener: () => void): () => void;
  /** Calls back when what was missing is let through. Returns how to stop. */
  onRegained(listener: () => void): () => void;
  /** Null where nothing was refused, or all of it was let through since. */
  readonly sentence: string | null;
};

/** Says each right that is missing once in the log. */
export function createRightsBook({ clock, log }: { clock: Clock; log: Log }): RightsBook {
  const missing = new Map<string, { right: Right; atMs: number }>();
  const changed = createListeners();
  const regained = createListeners();
  return {
    onChange: changed.add,
    onRegained: regained.add,
    refused(right) {
      const key = keyOf(right);
      const isNew = !missing.has(key);
      missing.set(key, { right, atMs: clock.now() });
      if (!isNew) return;
      log('right_missing', { detail: lackText([right]) });
      changed.tell();
    },
    allowed(right) {
      if (!missing.delete(keyOf(right))) return;
      changed.tell();
      regained.tell();
    },
    lacks: (verb, resource) =>
      [...missing.values()].some(
        ({ right, atMs }) =>
          right.verb === verb && right.resource === resource && clock.now() - atMs < REFUSED_FOR_MS,
      ),
    get sentence() {
      return missing.size === 0 ? null : lackText([...missing.values()].map(({ right }) => right));
    },
  };
}

function keyOf({ verb, group, resource, namespace = '' }: Right): string {
  return [verb, group, resource, namespace].join(' ');
}
