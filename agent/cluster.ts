import {
  type ClusterAnnouncement,
  fitSentence,
  isHopeless,
  type TemplateAnnouncement,
} from '../shared/announcement.ts';
import type { Template } from '../shared/template.ts';
import type { Backend } from './backends/backend.ts';
import { type Canary, type CanaryOptions, createCanary } from './canary/canary.ts';
import type { Clock } from './clock.ts';
import { createDeadline, orAborted } from './deadline.ts';
import type { Log } from './log.ts';
import type { PoolBounds } from './pool/bounds.ts';
import { createPool, type Pool } from './pool/pool.ts';
import type { RunnerClient, RunnerClientDeps } from './runner/client.ts';
import type { TemplateSource } from './templates/template-source.ts';

/** What a backend knows of its cluster beyond sandboxes. */
export type ClusterFacts = Pick<ClusterAnnouncement, 'kubernetes_version'> & {
  /** Why the whole cluster cannot serve, if it cannot. */
  readonly unavailable: string | null;
  /** What it cannot do although it serves. */
  readonly impaired: string | null;
};

const NO_FACTS: ClusterFacts = { kubernetes_version: null, unavailable: null, impaired: null };
const NOT_CHECKED: ClusterAnnouncement['isolation'] = { checked_at: null, findings: [] };

/**
 * How long an end waits for sandboxes to go one by one. Where their cluster is away each would be tried for minutes; as a
 * backend closes it gives that up, and removes what is left together, if it can.
 */
export const CLOSE_POOLS_MS = 5_000;

export type ClusterOptions = {
  readonly name: string;
  readonly backend: Backend;
  readonly templates: TemplateSource;
  /** Read for each announcement. */
  readonly facts?: () => ClusterFacts;
  /** Calls back when the facts are others. Returns how to stop. */
  readonly onFacts?: (listener: () => void) => () => void;
  /** Absent: nobody looks whether isolation holds. */
  readonly canary?: CanaryOptions | undefined;
};

export type ClusterDeps = ClusterOptions & {
  clock: Clock;
  random: () => number;
  log: Log;
  /** Capacity or trouble of a template may have changed, or anything of the cluster. */
  onChange: (template?: string) => void;
  openRunner?: ((deps: RunnerClientDeps) => RunnerClient) | undefined;
  bounds?: PoolBounds | undefined;
};

/** One cluster that an agent serves: its backend, and a pool for each template. */
export type Cluster = {
  readonly name: string;
  /** As callers may have it: closed while the template's isolation is not proven. */
  pool(template: string): Pool | undefined;
  pools(): Iterable<Pool>;
  /** Null where nobody looks. */
  readonly canary: Canary | null;
  announcement(): ClusterAnnouncement;
  /** Ends every sandbox, and the backend. */
  close(): Promise<void>;
};

export function createCluster(deps: ClusterDeps): Cluster {
  const {
    name,
    backend,
    templates,
    facts = () => NO_FACTS,
    clock,
    random,
    onChange,
    openRunner,
    bounds,
  } = deps;
  const pools = new Map<string, Pool>();
  const canary = deps.canary
    ? createCanary({ ...deps.canary, backend, clock, random, log: say, onChange: () => onChange() })
    : null;
  const retired = new Set<Promise<void>>();

  function say(...[event, fields]: Parameters<Log>): void {
    deps.log(event, { cluster: name, ...fields });
  }

  function open(template: Template): Pool {
    const changed = () => {
      canary?.wake(template.name);
      onChange(template.name);
    };
    const pool = createPool({
      backend,
      template,
      clock,
      random,
      log: say,
      onChange: changed,
      openRunner,
      bounds,
    });
    return canary?.guard(pool) ?? pool;
  }

  function follow(): void {
    const current = templates.current();
    for (const [template, pool] of pools) {
      if (current.has(template)) continue;
      pools.delete(template);
      const gone = pool.close();
      retired.add(gone);
      void gone.then(() => retired.delete(gone));
    }
    for (const template of current.values()) {
      const known = pools.get(template.name);
      if (known) known.update(template);
      else pools.set(template.name, open(template));
    }
    onChange();
  }

  const stopFollowing = templates.onChange(follow);
  const stopHearing = deps.onFacts?.(() => onChange());
  follow();

  return {
    name,
    pool: (template) => pools.get(template),
    pools: () => pools.values(),
    canary,
    announcement() {
      const { unavailable, impaired, ...known } = facts();
      const announced = [...pools.values()].map((pool) => ({
        ...announceTemplate(pool),
        isolation: canary?.isolation(pool.template.name) ?? null,
      }));
      const troubled = announced.filter(({ trouble }) => trouble !== null);
      const detail = unavailable ?? impaired ?? troubled[0]?.trouble?.detail ?? null;
      return {
        name,
        backend: backend.kind,
        state:
          unavailable !== null || announced.every((template) => isHopeless(template))
            ? 'unavailable'
            : troubled.length > 0 || impaired !== null
              ? 'degraded'
              : 'ready',
        detail: detail === null ? null : fitSentence(detail),
        ...known,
        isolation: canary?.summary() ?? NOT_CHECKED,
        templates: announced,
      };
    },
    async close() {
      stopFollowing();
      stopHearing?.();
      templates.close();
      const closed = Promise.all([...[...pools.values()].map((pool) => pool.close()), ...retired]);
      using limit = createDeadline(clock, CLOSE_POOLS_MS, () => new Error('The sandboxes are not gone yet.'));
      await orAborted(closed, limit.signal).catch(() => {});
      await backend.close();
      await closed;
      await canary?.ended();
    },
  };
}

function announceTemplate({ template, trouble, hopeful, capacity }: Pool): TemplateAnnouncement {
  const { name, hash, languages, pool, reuse, network, resources } = template;
  return {
    name,
    hash,
    languages,
    total: pool.max,
    reuse,
    network,
    max_memory_mb: resources.memory_mb,
    max_timeout_ms: resources.timeout_ms,
    trouble: trouble && {
      ...trouble,
      detail: fitSentence(trouble.detail),
      free: capacity(),
      waits: hopeful,
    },
  };
}
