import { createRandom, type Random } from './random.ts';

/** What breaks: one kind of fault on one wire or process, from a moment on and for a while. */
export type Fault = { readonly atMs: number } & (
  | { readonly do: 'cut' }
  | { readonly do: 'stall'; readonly direction: 'up' | 'down' | 'both'; readonly forMs: number }
  | { readonly do: 'half_open'; readonly gone: 'dialler' | 'target' }
  | { readonly do: 'slow'; readonly bytesPerSecond: number; readonly forMs: number }
  | { readonly do: 'corrupt'; readonly slices: number }
  /** Connections are reset, and new ones too. */
  | { readonly do: 'refuse'; readonly forMs: number }
  /** SIGSTOP, SIGCONT. */
  | { readonly do: 'stop'; readonly forMs: number }
  /** SIGKILL, and started again after a while. */
  | { readonly do: 'kill'; readonly downMs: number }
  /** SIGTERM, and started again once it has ended. */
  | { readonly do: 'drain' }
);

/** Faults of one place, one after the other. `wire-1` is that of `agent-1`. */
export type Lane = { readonly place: string; readonly faults: readonly Fault[] };

export type ScheduleOptions = { seed: string; durationMs: number; gateways: number; agents: number };

const WIRE = { cut: 4, stall: 5, half_open: 3, slow: 3, corrupt: 3, refuse: 2 } as const;
const AGENT = { stop: 2, kill: 2, drain: 2 } as const;
const GATEWAY = { stop: 3, kill: 2, drain: 3 } as const;
/** They are never restarted: what their memory does in the whole run is seen. */
const WITNESS = { stop: 1 } as const;
const WIRE_EVERY_MS = 20_000;
const PROCESS_EVERY_MS = 45_000;
/** Before the first fault all is well for so long, and behind the last. */
const PEACE_MS = 2_000;

/** The same faults for the same seed. The first gateway and the first agent are stopped, never restarted. */
export function planFaults({ seed, durationMs, gateways, agents }: ScheduleOptions): Lane[] {
  const lane = (place: string, kinds: Readonly<Record<string, number>>, everyMs: number): Lane => {
    const random = createRandom(`${seed}/${place}`);
    const faults: Fault[] = [];
    let atMs = PEACE_MS + random.wait(everyMs);
    while (atMs < durationMs - PEACE_MS) {
      const fault = draw(random, random.weighted(kinds) as Fault['do'], atMs);
      faults.push(fault);
      atMs += spanMs(fault) + random.wait(everyMs);
    }
    return { place, faults };
  };
  const count = (most: number) => Array.from({ length: most }, (_, index) => index);
  return [
    ...count(agents).map((index) => lane(`wire-${index}`, WIRE, WIRE_EVERY_MS)),
    ...count(agents).map((index) => lane(`agent-${index}`, index === 0 ? WITNESS : AGENT, PROCESS_EVERY_MS)),
    ...count(gateways).map((index) =>
      lane(`gateway-${index}`, index === 0 ? WITNESS : GATEWAY, PROCESS_EVERY_MS),
    ),
  ];
}

/** How long a fault keeps its place busy, as far as that is known beforehand. */
export function spanMs(fault: Fault): number {
  if ('forMs' in fault) return fault.forMs;
  return 'downMs' in fault ? fault.downMs : 0;
}

function draw(random: Random, kind: Fault['do'], atMs: number): Fault {
  switch (kind) {
    case 'cut':
    case 'drain':
      return { atMs, do: kind };
    case 'stall':
      return {
        atMs,
        do: kind,
        direction: random.pick(['up', 'down', 'both'] as const),
        forMs: random.between(200, 8_000),
      };
    case 'half_open':
      return { atMs, do: kind, gone: random.pick(['dialler', 'target'] as const) };
    case 'slow':
      return {
        atMs,
        do: kind,
        bytesPerSecond: random.between(50_000, 2_000_000),
        forMs: random.between(500, 5_000),
      };
    case 'corrupt':
      return { atMs, do: kind, slices: random.between(1, 3) };
    case 'refuse':
      return { atMs, do: kind, forMs: random.between(200, 4_000) };
    case 'stop':
      return { atMs, do: kind, forMs: random.between(100, 8_000) };
    case 'kill':
      return { atMs, do: kind, downMs: random.between(0, 2_000) };
  }
}
