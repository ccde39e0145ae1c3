import { isHopeless, type TemplateAnnouncement } from '../../shared/announcement.ts';
import { type ErrorCode, Failure, isErrorCode, troubleForCallers } from '../../shared/errors.ts';
import { type Caller, mayUseCluster, mayUseTemplate } from '../auth/caller.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import { chooseOffer, type Offer } from './choose.ts';
import type { ClusterDirectory } from './cluster-directory.ts';
import { announcedTemplate, type Cluster, freeSlots, type Instance, type SlotPlace } from './instance.ts';

/** What a caller who is sent away may do: come back. */
export const NO_AGENT_RETRY_MS = 2_000;

/** A key of `podgate keys create` has not the scope for it unless it is named. */
function whatThereIs({ scopes }: Caller): string {
  return scopes.includes('clusters')
    ? 'GET /v1/clusters lists those that the key may use.'
    : "GET /v1/clusters lists those that there are, to a key that has the scope 'clusters'.";
}

/** Where an execution may run. */
export type Wanted = {
  caller: Caller;
  /** Null: any that the key may use. */
  cluster: string | null;
  template: string;
  /** Null: whatever the template has. */
  language: string | null;
};

export type Placement = {
  cluster: string;
  instance: string;
  link: GatewayLink;
  /** Gives the grant back: no START was sent for it. */
  release(): void;
};

export type SlotPlacement = Placement & { at: SlotPlace };

type Candidate = Offer & { of: Instance };

/**
 * Throws where the wanted place does not exist or nobody serves it: 404 `no_cluster` and `no_template`, 422
 * `no_language`, 503 `no_agent`, and the template's own trouble where it has nothing ready. A cluster that the key may
 * not use answers exactly like one that does not exist.
 */
export function requirePlace(directory: ClusterDirectory, wanted: Wanted): void {
  const clusters = requireClusters(directory, wanted);
  const { caller, template, language } = wanted;
  const serving = clusters.flatMap(({ name, instances }) =>
    [...instances].flatMap((instance) => {
      const announced = announcedTemplate(instance, name, template);
      return announced ? [{ announced, free: freeSlots(instance, name, announced) }] : [];
    }),
  );
  if (serving.length === 0 || !mayUseTemplate(caller, template))
    throw new Failure('no_template', `No template '${template}' here: ${whatThereIs(caller)}`);
  const speaking = serving.filter(({ announced }) => speaks(announced, language));
  if (speaking.length === 0) {
    const others = [...new Set(serving.flatMap(({ announced }) => announced.languages))].sort();
    const message = `Template '${template}' has no language '${language}', only ${others.join(', ')}.`;
    throw new Failure('no_language', message, { errors: [{ path: 'language', message }] });
  }
  if (speaking.every(({ announced, free }) => isHopeless(announced, free)))
    throw troubleFailure(speaking[0]?.announced);
}

/** What keeps the wanted place from having a free slot, where it is more than that all are taken. */
export function placeTrouble(directory: ClusterDirectory, wanted: Wanted): Failure | undefined {
  const troubled = candidates(directory, wanted, new Set()).map(({ of, cluster }) =>
    announcedTemplate(of, cluster, wanted.template),
  );
  return troubled.length > 0 && troubled.every((each) => each?.trouble)
    ? troubleFailure(troubled[0])
    : undefined;
}

/**
 * Takes a slot where one is free, at this place only where one is given, and spends its grant. `refused` are instances that have said no to this execution;
 * `avoided` are taken only where no other one is free.
 */
export function place(
  directory: ClusterDirectory,
  {
    wanted,
    refused,
    avoided,
  }: { wanted: Wanted; refused: ReadonlySet<string>; avoided: ReadonlySet<string> },
  only?: SlotPlace,
): SlotPlacement | undefined {
  const offers = candidates(directory, wanted, refused, only);
  const liked = avoided.size > 0 && chooseOffer(offers.filter(({ instance }) => !avoided.has(instance)));
  const chosen = liked || chooseOffer(offers);
  if (!chosen) return undefined;
  const { cluster, of } = chosen;
  const [best] = [...of.links]
    .filter(([link]) => !link.draining)
    .map(([link, grants]) => ({ link, grants, free: grants.free(cluster, wanted.template) }))
    .sort((a, b) => b.free - a.free || a.link.running - b.link.running);
  if (!best || best.free === 0) return undefined;
  best.grants.spend(cluster, wanted.template);
  const { link, grants } = best;
  const { template } = wanted;
  return {
    cluster,
    instance: of.name,
    at: { cluster, template, of },
    link,
    release: () => grants.unspend(cluster, template),
  };
}

/** Whether some instance that has not refused may still take it, now or later. */
export function mayBePlaced(
  directory: ClusterDirectory,
  wanted: Wanted,
  refused: ReadonlySet<string>,
): boolean {
  return candidates(directory, wanted, refused).length > 0;
}

/** Clusters that a request may mean and that have an agent here. Throws `no_cluster` or `no_agent` where there is none. */
export function requireClusters(
  directory: ClusterDirectory,
  { caller, cluster }: Pick<Wanted, 'caller' | 'cluster'>,
): Cluster[] {
  const { tenant } = caller;
  const live = [...directory.clusters(tenant)].filter(isLive);
  const noAgent = (detail: string) => new Failure('no_agent', detail, { retryAfterMs: NO_AGENT_RETRY_MS });
  if (cluster === null) {
    const mine = live.filter(({ name }) => mayUseCluster(caller, name));
    if (mine.length === 0) throw noAgent('No agent is connected for any cluster that this key may use.');
    return mine;
  }
  const known = mayUseCluster(caller, cluster) ? directory.cluster(tenant, cluster) : undefined;
  if (known && isLive(known)) return [known];
  // The key's own word that there is such a cluster; and where no agent is linked, nobody can say what exists.
  const named = caller.clusters?.includes(cluster) || caller.defaultCluster === cluster;
  if (known || live.length === 0 || (named && mayUseCluster(caller, cluster)))
    throw noAgent(`No agent is connected for cluster '${cluster}'.`);
  throw new Failure('no_cluster', `No cluster '${cluster}': ${whatThereIs(caller)}`);
}

function candidates(
  directory: ClusterDirectory,
  { caller, cluster, template, language }: Wanted,
  refused: ReadonlySet<string>,
  only?: SlotPlace,
): Candidate[] {
  const named = cluster === null ? undefined : directory.cluster(caller.tenant, cluster);
  const all = cluster === null ? directory.clusters(caller.tenant) : named ? [named] : [];
  const among = only ? [{ name: only.cluster, instances: [only.of] }] : all;
  const found: Candidate[] = [];
  for (const { name, instances } of among) {
    if (!mayUseCluster(caller, name)) continue;
    for (const instance of instances) {
      if (refused.has(instance.name) || !takesWork(instance)) continue;
      const announced = announcedTemplate(instance, name, template);
      if (!announced || !speaks(announced, language)) continue;
      let running = 0;
      for (const link of instance.links.keys()) running += link.running;
      const free = freeSlots(instance, name, announced);
      found.push({
        cluster: name,
        instance: instance.name,
        free,
        total: announced.total,
        running,
        of: instance,
      });
    }
  }
  return found;
}

function speaks({ languages }: TemplateAnnouncement, language: string | null): boolean {
  return language === null || languages.includes(language);
}

function isLive({ instances }: Cluster): boolean {
  for (const instance of instances) if (takesWork(instance)) return true;
  return false;
}

function takesWork({ links }: Instance): boolean {
  for (const link of links.keys()) if (!link.draining) return true;
  return false;
}

/** The trouble under an agent's code, where it is one that a template may be in trouble with. */
function troubleFailure(template: TemplateAnnouncement | undefined): Failure {
  const { code = '', detail = '' } = template?.trouble ?? {};
  const known: readonly ErrorCode[] = [
    'image_error',
    'quota_exceeded',
    'unschedulable',
    'backend_unavailable',
    'isolation_failed',
    'policy_denied',
  ];
  const own = isErrorCode(code) && known.includes(code) ? code : 'backend_unavailable';
  return troubleForCallers({ code: own, detail }, { retryAfterMs: NO_AGENT_RETRY_MS });
}
