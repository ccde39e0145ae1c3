import type { Seen } from './asking.ts';
import { MISSES, type Miss } from './judge.ts';
import type { Kind } from './programs.ts';

const MAX_TOLD = 50;

export type Missed = { miss: Miss | 'left_over' | 'memory' | 'broke'; name: string; why: string };

/** What a soak has counted. */
export type Tally = {
  /** One execution, and what was seen of it each time that it was asked for. */
  take(kind: Kind, sights: readonly Seen[]): void;
  miss(missed: Missed): void;
  readonly asked: number;
  readonly results: number;
  readonly misses: number;
  /** The first misses, whole. */
  readonly told: readonly Missed[];
  /** Lines of `what  number`. */
  lines(): string[];
};

/** `write` is told of every miss as it is found. */
export function createTally(write: (missed: Missed) => void): Tally {
  const kinds = new Map<Kind, number>();
  const sights = new Map<Seen['saw'], number>();
  const codes = new Map<string, number>();
  const repeats = new Map<string, number>();
  const misses = new Map<Missed['miss'], number>();
  const told: Missed[] = [];
  let asked = 0;

  const count = <Name>(counts: Map<Name, number>, name: Name) =>
    counts.set(name, (counts.get(name) ?? 0) + 1);
  const sum = (counts: Map<unknown, number>) => [...counts.values()].reduce((all, each) => all + each, 0);
  const list = (counts: Map<string, number>) =>
    [...counts]
      .sort(([, a], [, b]) => b - a)
      .map(([name, number]) => `${name} ${number}`)
      .join(', ');

  return {
    take(kind, [first, ...again]) {
      asked += 1;
      count(kinds, kind);
      for (const seen of first ? [first] : []) {
        count(sights, seen.saw);
        if (seen.saw === 'failure') count(codes, `${seen.code}/${seen.started}`);
      }
      for (const seen of again)
        count(repeats, seen.saw === 'failure' ? `${seen.code}/${seen.started}` : seen.saw);
    },
    miss(missed) {
      count(misses, missed.miss);
      write(missed);
      if (told.length < MAX_TOLD) told.push(missed);
    },
    get asked() {
      return asked;
    },
    get results() {
      return sights.get('result') ?? 0;
    },
    get misses() {
      return sum(misses);
    },
    told,
    lines: () => [
      `asked              ${asked}  (${list(kinds)})`,
      `answered, result   ${sights.get('result') ?? 0}`,
      `answered, code     ${sights.get('failure') ?? 0}  (code/started: ${list(codes)})`,
      `asked again by key ${sum(repeats)}  (${list(repeats)})`,
      `told of a gap      ${(sights.get('gap') ?? 0) + (repeats.get('gap') ?? 0)}`,
      `left by callers    ${sights.get('nothing') ?? 0}`,
      `broken with a gateway that was killed, or by a reader that stalled  ${sights.get('break') ?? 0}`,
      ...[...MISSES, 'left_over', 'memory', 'broke'].map(
        (miss) => `${miss.replaceAll('_', ' ').padEnd(18)} ${misses.get(miss as Miss) ?? 0}`,
      ),
    ],
  };
}
