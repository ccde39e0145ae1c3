import { MAX_CLUSTERS, MAX_TEMPLATES } from '../../shared/announcement.ts';

/** Templates that one link may be granted: as many as it may announce. */
export const MAX_GRANTS = MAX_CLUSTERS * MAX_TEMPLATES;

/**
 * Grants of one link: how many STARTs its agent will take, by cluster and template. Both numbers are cumulative and
 * only rise, so a message that comes late or twice cannot free a slot that is taken.
 */
export class Grants {
  readonly #byTemplate = new Map<string, { granted: number; spent: number }>();

  /** Returns whether anything became free; undefined for a protocol error: a grant that falls, or one too many. */
  raise(cluster: string, template: string, granted: number): boolean | undefined {
    const name = keyOf(cluster, template);
    const known = this.#byTemplate.get(name);
    if (!known) {
      if (this.#byTemplate.size >= MAX_GRANTS) return undefined;
      this.#byTemplate.set(name, { granted, spent: 0 });
      return granted > 0;
    }
    if (granted < known.granted) return undefined;
    const rises = granted > known.granted;
    known.granted = granted;
    return rises;
  }

  /** Templates that were granted, whatever is left of it. */
  get size(): number {
    return this.#byTemplate.size;
  }

  free(cluster: string, template: string): number {
    const known = this.#byTemplate.get(keyOf(cluster, template));
    return known ? Math.max(0, known.granted - known.spent) : 0;
  }

  /** Spends one. The caller has looked at `free`. */
  spend(cluster: string, template: string): void {
    const known = this.#byTemplate.get(keyOf(cluster, template));
    if (!known || known.spent >= known.granted) throw new Error('a grant is spent that was never given');
    known.spent += 1;
  }

  /** Takes a `spend` back that no START followed. */
  unspend(cluster: string, template: string): void {
    const known = this.#byTemplate.get(keyOf(cluster, template));
    if (known && known.spent > 0) known.spent -= 1;
  }
}

function keyOf(cluster: string, template: string): string {
  return `${cluster}/${template}`;
}
