import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { MAX_RETAINED_BYTES } from '../../agent/executions/retention.ts';
import { readLogLines } from './log-lines.ts';

/** What the agents' logs say of output that was put behind an execution's own. */
export type KeptOutput = {
  /**
   * Why an execution's output need not have gone by `atMs` (Unix time): little enough had ended at its agent since.
   * Undefined where the agent had no room for it any more.
   */
  whyGap(executionId: string | null, atMs: number): string | undefined;
};

/** What runs takes room too: an agent may drop what has ended when less than all of it is behind. */
const LEAST_BEHIND_BYTES = MAX_RETAINED_BYTES / 2;

export async function readKeptOutput(logs: string): Promise<KeptOutput> {
  const ends = new Map<string, { instance: string; atMs: number; bytes: number }>();
  for (const file of await readdir(logs)) {
    if (!file.startsWith('agent')) continue;
    for await (const line of readLogLines(join(logs, file))) {
      if (line.event !== 'execution') continue;
      ends.set(String(line.execution_id), {
        instance: String(line.instance),
        atMs: Date.parse(String(line.time)),
        bytes: Number(line.output_bytes),
      });
    }
  }
  return {
    whyGap(executionId, atMs) {
      const own = ends.get(executionId ?? '');
      if (!own) return 'a gap in what no agent tells of';
      let behind = 0;
      for (const each of ends.values())
        if (each.instance === own.instance && each.atMs >= own.atMs && each.atMs <= atMs)
          behind += each.bytes;
      return behind >= LEAST_BEHIND_BYTES
        ? undefined
        : `a gap, though its agent had put ${behind} bytes behind it`;
    },
  };
}
