import { RECORD_TTL_MS } from '../../shared/limits.ts';

export type EndedMemoryOptions = {
  /** Milliseconds that only go forward. */
  elapsed: () => number;
  /** The weight of all entries, and of one tenant's. */
  max: number;
  maxPerTenant: number;
};

type Kept<Entry> = { entry: Entry; weight: number; endedAtMs: number };
/** One tenant's, in order of their ends. */
type TenantEntries<Entry> = { kept: Map<string, Kept<Entry>>; weight: number };

/**
 * What a gateway remembers of executions for RECORD_TTL_MS after their ends. Beyond its weight the oldest goes first: of
 * all tenants, and of a tenant that has its share its own, so that none has the others' forgotten.
 */
export class EndedMemory<Entry> {
  readonly #options: EndedMemoryOptions;
  /** In order of their last ends. */
  readonly #tenants = new Map<string, TenantEntries<Entry>>();
  #weight = 0;

  constructor(options: EndedMemoryOptions) {
    this.#options = options;
  }

  get weight(): number {
    return this.#weight;
  }

  get(tenant: string, name: string): Entry | undefined {
    this.#expire(tenant);
    return this.#tenants.get(tenant)?.kept.get(name)?.entry;
  }

  /** Remembers it as one that ended now, in place of what had its name. */
  set(tenant: string, name: string, entry: Entry, weight = 1): void {
    this.#delete(tenant, name);
    this.#expire(tenant);
    const own = this.#tenants.get(tenant) ?? { kept: new Map(), weight: 0 };
    this.#tenants.delete(tenant);
    this.#tenants.set(tenant, own);
    this.#expireAbsent();
    own.kept.set(name, { entry, weight, endedAtMs: this.#options.elapsed() });
    own.weight += weight;
    this.#weight += weight;
    while (own.weight > this.#options.maxPerTenant) this.#deleteFirst(tenant);
    while (this.#weight > this.#options.max) this.#deleteFirst(this.#tenantOfOldest());
  }

  #expire(tenant: string): void {
    const before = this.#options.elapsed() - RECORD_TTL_MS;
    for (const [name, { endedAtMs }] of this.#tenants.get(tenant)?.kept ?? []) {
      if (endedAtMs > before) return;
      this.#delete(tenant, name);
    }
  }

  /** What is left of tenants that end nothing any more. */
  #expireAbsent(): void {
    for (const tenant of this.#tenants.keys()) {
      this.#expire(tenant);
      if (this.#tenants.has(tenant)) return;
    }
  }

  #tenantOfOldest(): string {
    let [oldest, sinceMs] = ['', Infinity];
    for (const [tenant, { kept }] of this.#tenants)
      for (const { endedAtMs } of kept.values()) {
        if (endedAtMs < sinceMs) [oldest, sinceMs] = [tenant, endedAtMs];
        break;
      }
    return oldest;
  }

  #deleteFirst(tenant: string): void {
    for (const name of this.#tenants.get(tenant)?.kept.keys() ?? []) {
      this.#delete(tenant, name);
      return;
    }
  }

  #delete(tenant: string, name: string): void {
    const own = this.#tenants.get(tenant);
    const { weight } = own?.kept.get(name) ?? {};
    if (!own || weight === undefined) return;
    own.kept.delete(name);
    own.weight -= weight;
    this.#weight -= weight;
    if (own.kept.size === 0) this.#tenants.delete(tenant);
  }
}
