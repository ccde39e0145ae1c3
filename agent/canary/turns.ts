import { Failure } from '../../shared/errors.ts';
import type { Clock } from '../clock.ts';

/** Who has nothing to try anything in is looked at this often, for whether another has. */
export const YIELD_LOOK_MS = 1_000;

/** Who takes turns: `canTry` says whether it has what its turn is for. */
export type Taker = { readonly canTry: () => boolean };

/** So many at once; who can use a turn goes before who cannot yet, and is given that one's. */
export type Turns = {
  /**
   * Resolves when it is this one's turn; rejects with the signal's reason where it aborts before. The turn's own signal
   * aborts where it is wanted by who can use it.
   */
  enter(taker: Taker, signal: AbortSignal): Promise<Disposable & { readonly signal: AbortSignal }>;
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

  function inLine(taker: Taker, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    return new Promise((begin, reject) => {
      const place = { taker, begin };
      line.push(place);
      const onAbort = () => {
        // Whoever has been given the turn gives it back.
        if (!line.includes(place)) return;
        line.splice(line.indexOf(place), 1);
        reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  return {
    async enter(taker, signal) {
      if (free > 0) free -= 1;
      else await inLine(taker, signal);
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
