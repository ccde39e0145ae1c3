/** Nobody has held a stream to any of an instance's containers for so long, before this observer's own eyes: it is dead. */
export const SILENT_MS = 20_000;

/** What was seen of another instance in one look. `unknown`: nothing that proves it alive or dead. */
export type Sign = 'alive' | 'dead' | 'unknown';

/**
 * Who lives. An agent on this machine is seen by its process; any other by the streams that it holds: the engine ends a
 * stream's command when its agent is gone, however that ended.
 */
export class SignsOfLife {
  #silentSinceMs = new Map<string, number>();
  readonly #silentMs: number;

  constructor(silentMs = SILENT_MS) {
    this.#silentMs = silentMs;
  }

  /** Takes one look at every other instance, made at `nowMs` (monotonic). Returns those that are dead. */
  observe(signs: ReadonlyMap<string, Sign>, nowMs: number): string[] {
    const silent = new Map<string, number>();
    const dead: string[] = [];
    for (const [instance, sign] of signs) {
      if (sign === 'alive') continue;
      const sinceMs = this.#silentSinceMs.get(instance) ?? nowMs;
      silent.set(instance, sinceMs);
      if (sign === 'dead' || nowMs - sinceMs >= this.#silentMs) dead.push(instance);
    }
    this.#silentSinceMs = silent;
    return dead;
  }

  /** What could not be looked at proves nothing: after a gap every instance gets its whole time again. */
  forget(): void {
    this.#silentSinceMs.clear();
  }
}
