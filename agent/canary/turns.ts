import { Failure } from '../../shared/errors.ts';
import type { Clock } from '../clock.ts';

/** Who has nothing to try anything in is looked at this often, for whether another has. */
export const YIELD_LOOK_MS = 1_000;

/** Who takes turns: `canTry` says whether it has what its turn is for. */
export type Taker = { readonly canTry: () => boolean };

/** So many at once; who can use a turn goes before who cannot yet, and is given that one's. */
export type Turns = {
  /** Resolves when it is this one's turn. The turn's signal aborts where it is wanted by who can use it. */
  enter(taker: Taker): Promise<Disposable & { readonly signal: AbortSignal }>;
};

export function createTurns(atOnce: number, clock: Clock): Turns {
  const line: { taker: Taker; begin: () => void }[] = [];
  let free = atOnce;

  function leave(): void {
    const ready = line.findIndex(({ taker }) => taker.canTry());
    const [next] = line.splice(Math.max(0, ready), 1);
    if (next) next.begin();
    else free += 1;
  }

  return {
    async enter(taker) {
      if (free > 0) free -= 1;
      else await new Promise<void>((begin) => line.push({ taker, begin }));
      const yielded = new AbortController();
      let cancel = clock.after(YIELD_LOOK_MS, look);
      function look(): void {
        if (!taker.canTry() && line.some((other) => other.taker.canTry()))
          yielded.abort(new Failure('at_capacity', 'Another canary has its turn first.'));
        else cancel = clock.after(YIELD_LOOK_MS, look);
      }
      return {
        signal: yielded.signal,
        [Symbol.dispose]() {
          cancel();
          leave();
        },
      };
    },
  };
}
