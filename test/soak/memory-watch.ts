import type { FleetProcess } from '../fakes/fleet-process.ts';

const MB = 1_048_576;
/** Records stay for ten minutes: before that, memory has a reason to rise. */
const SETTLED_MS = 720_000;
const SETTLED_SHARE = 0.4;
/** What heaps move by without a reason that lasts. */
export const MAX_GROWTH_BYTES = 64 * MB;
/** While records come and none goes yet: 2 KB each, at the rate of a quick machine. */
const MAX_YOUNG_GROWTH_BYTES = 128 * MB;
/** A heap goes up and down by more than it grows: medians are of so long, of a shorter soak a tenth, within bounds. */
const WINDOW_MS = { least: 15_000, most: 180_000 };
const WINDOW_SHARE = 0.1;

type Watched = { name: string; read: () => number };

/** Resident memory of processes that live through a soak: at the start, once it has settled, and at the end. */
export type MemoryWatch = {
  sample(atMs: number): void;
  /** Names whose memory is not flat, and why. */
  risen(): { name: string; why: string }[];
  lines(): string[];
};

export function watchMemory(
  processes: readonly Pick<FleetProcess, 'name' | 'residentBytes'>[],
  durationMs: number,
): MemoryWatch {
  const settledMs = Math.min(SETTLED_MS, durationMs * SETTLED_SHARE);
  const windowMs = Math.max(WINDOW_MS.least, Math.min(WINDOW_MS.most, durationMs * WINDOW_SHARE));
  const mayRise = settledMs < SETTLED_MS ? MAX_YOUNG_GROWTH_BYTES : MAX_GROWTH_BYTES;
  const watched: Watched[] = processes.map((process) => ({
    name: process.name,
    read: () => process.residentBytes(),
  }));
  const samples = new Map(watched.map(({ name }) => [name, [] as { atMs: number; bytes: number }[]]));
  const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1] ?? 0;
  const of = (name: string) => {
    const all = samples.get(name) ?? [];
    const endMs = all.at(-1)?.atMs ?? 0;
    const bytes = (fromMs: number) =>
      median(all.filter(({ atMs }) => atMs >= fromMs && atMs <= fromMs + windowMs).map((each) => each.bytes));
    return {
      start: bytes(0),
      settled: endMs < settledMs ? undefined : bytes(settledMs),
      peak: Math.max(...all.map((each) => each.bytes)),
      end: bytes(endMs - windowMs),
    };
  };
  return {
    sample(atMs) {
      for (const { name, read } of watched) samples.get(name)?.push({ atMs, bytes: read() });
    },
    risen: () =>
      watched.flatMap(({ name }) => {
        const { settled, end } = of(name);
        // It was ended before that.
        if (settled === undefined) return [];
        const why = `${inMb(settled)} settled, ${inMb(end)} at the end`;
        return end - settled > mayRise ? [{ name, why }] : [];
      }),
    lines: () =>
      watched.map(({ name }) => {
        const { start, settled, peak, end } = of(name);
        return `memory of ${name}: ${inMb(start)} at the start, ${settled === undefined ? 'never' : inMb(settled)} settled (${Math.round(settledMs / 60_000)} min), ${inMb(end)} at the end, ${inMb(peak)} at most`;
      }),
  };
}

function inMb(bytes: number): string {
  return `${Math.round(bytes / MB)} MB`;
}
