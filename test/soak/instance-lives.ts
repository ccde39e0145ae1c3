import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readLogLines } from './log-lines.ts';

/** What the agents' logs say of where executions ran, and until when those agents lived. */
export type InstanceLives = {
  /**
   * Why these executions of one key, which ran so often in all, are one too many: an agent that knew of one still lived
   * when the next began. Undefined where each agent had gone before: what it knew is gone with it.
   */
  whyTwice(executionIds: Iterable<string>, runs: number): string | undefined;
};

type Run = { instance: string; beganMs: number };

export async function readInstanceLives(logs: string): Promise<InstanceLives> {
  const ran = new Map<string, Run>();
  const lastHeardMs = new Map<string, number>();
  for (const file of await readdir(logs)) {
    if (!file.startsWith('agent')) continue;
    for await (const line of readLogLines(join(logs, file))) {
      const instance = String(line.instance);
      const atMs = Date.parse(String(line.time));
      lastHeardMs.set(instance, atMs);
      if (line.event === 'execution' && line.started !== 'no')
        ran.set(String(line.execution_id), {
          instance,
          beganMs: atMs - Number(line.run_ms ?? 0),
        });
    }
  }
  return {
    whyTwice(executionIds, runs) {
      const known = [...new Set(executionIds)].flatMap((id) => ran.get(id) ?? []);
      if (known.length < runs) return `ran ${runs} times, of which its agents tell ${known.length}`;
      const inTurn = known.sort((a, b) => a.beganMs - b.beganMs);
      for (const [index, next] of inTurn.entries()) {
        const knew = inTurn
          .slice(0, index)
          .find(({ instance }) => (lastHeardMs.get(instance) ?? 0) > next.beganMs);
        if (knew) return `ran again while ${knew.instance}, which knew of it, lived`;
      }
      return undefined;
    },
  };
}
