import { setTimeout as sleep } from 'node:timers/promises';
import type { Asking, Seen } from './asking.ts';
import type { Program } from './programs.ts';
import type { Random } from './random.ts';

/** What another ask under the same key may learn more of: nothing is known yet, or nobody could say. */
const UNSETTLED_CODES = new Set([
  'no_agent',
  'at_capacity',
  'draining',
  'backend_unavailable',
  'rate_limited',
]);
const MAX_LAST_ASKS = 5;
const AGAIN_MS = { least: 200, most: 1_500 };

/**
 * One thing, asked for several times under one key: a second time while it runs, by a caller of its own, so that another
 * gateway may be asked; and when both are over once more, until it is known what became of it. What each of them saw.
 */
export async function askKeyed(
  open: () => Asking,
  { request, reading }: Program,
  key: string,
  patienceMs: number,
  random: Random,
): Promise<Seen[]> {
  if (reading.as !== 'keyed') throw new Error('this program has no key');
  const read = { as: reading.streamed ? 'stream' : 'json' } as const;
  const { leavesMs } = reading;
  const ask = async (leaves: boolean) => {
    await using asking = open();
    return await asking.ask(request, read, patienceMs, { key, ...(leaves && { leaveMs: leavesMs }) });
  };
  const second = sleep(reading.afterMs).then(() => ask(false));
  const seen = await Promise.all([ask(leavesMs !== undefined), second]);
  for (let asked = 0; asked < MAX_LAST_ASKS; asked += 1) {
    const last = await ask(false);
    seen.push(last);
    if (!isUnsettled(last)) break;
    await sleep(random.between(AGAIN_MS.least, AGAIN_MS.most));
  }
  return seen;
}

function isUnsettled(seen: Seen): boolean {
  return seen.saw === 'break' || (seen.saw === 'failure' && UNSETTLED_CODES.has(seen.code));
}
