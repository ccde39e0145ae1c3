/** One instance that serves the wanted template, and how much of it is free there. */
export type Offer = {
  cluster: string;
  instance: string;
  /** Grants left over all its links. */
  free: number;
  /** Sandboxes of the template that it may have at most. */
  total: number;
  /** Executions that run there. */
  running: number;
};

/**
 * The offer to take, or undefined where nothing is free: the least loaded cluster first, in it the least loaded
 * instance. Load is the share of sandboxes that is taken; between equals the one with more to spare, then the one with
 * less running, then the first by name.
 */
export function chooseOffer<Candidate extends Offer>(offers: readonly Candidate[]): Candidate | undefined {
  const open = offers.filter(({ free }) => free > 0);
  if (open.length <= 1) return open[0];
  const clusters = new Map<string, Offer>();
  for (const offer of open) {
    const sum = clusters.get(offer.cluster);
    if (!sum) clusters.set(offer.cluster, { ...offer, instance: '' });
    else {
      sum.free += offer.free;
      sum.total += offer.total;
      sum.running += offer.running;
    }
  }
  const [cluster] = [...clusters.values()].sort(byLoad);
  const [chosen] = open.filter((offer) => offer.cluster === cluster?.cluster).sort(byLoad);
  return chosen;
}

function byLoad(a: Offer, b: Offer): number {
  return (
    freeShare(b) - freeShare(a) ||
    b.free - a.free ||
    a.running - b.running ||
    compare(a.cluster, b.cluster) ||
    compare(a.instance, b.instance)
  );
}

function freeShare({ free, total }: Offer): number {
  return Math.min(1, free / Math.max(1, total));
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
