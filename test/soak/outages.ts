import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Failed } from './asking.ts';
import { readLogLines } from './log-lines.ts';

/** Times in ms since 1970, by the gateways' own clocks. An outage that never ended is that of an instance that is gone. */
type Outage = { fromMs: number; toMs: number };
type Run = { gateway: string; instance: string; fromMs: number; toMs: number };

/** What the gateways' logs say of the links that executions lost. */
export type Outages = {
  /**
   * Why an execution need not have been given up: its instance was back over another link soon enough, or in time for
   * its answer, due `answerMs` after it was asked. Undefined where it was not, or where nobody knows which instance it was.
   */
  whyGivenUp(failed: Failed & { executionId: string | null }, answerMs: number): string | undefined;
  /** Why a program need not have run out of time: its instance was hardly away. Undefined where that held it back. */
  whyOutOfTime(executionId: string | null): string | undefined;
};

/** Less away than this is no reason for a program to run out of its time. */
const HELD_BACK_MS = 5_000;

/** An instance that is away for less is waited for: shorter than the gateway's patience, as a link that is back must also be used. */
const PATIENCE_MS: Readonly<Record<string, number>> = {
  agent_lost: 25_000,
  maybe_started: 25_000,
  /** The program's time may be over meanwhile. */
  deadline_exceeded: 1_500,
};

export async function readOutages(logs: string): Promise<Outages> {
  const outages = new Map<string, Outage[]>();
  const runs = new Map<string, Run>();
  for (const file of await readdir(logs))
    if (file.startsWith('gateway')) await readLog(logs, file, outages, runs);
  const during = (run: Run) =>
    (outages.get(`${run.gateway}/${run.instance}`) ?? []).filter(
      ({ fromMs, toMs }) => fromMs <= run.toMs && toMs >= run.fromMs,
    );
  return {
    whyOutOfTime(executionId) {
      const run = runs.get(executionId ?? '');
      if (!run) return undefined;
      const awayMs = during(run).reduce(
        (sum, { fromMs, toMs }) => sum + Math.min(toMs, run.toMs) - Math.max(fromMs, run.fromMs),
        0,
      );
      return awayMs >= HELD_BACK_MS
        ? undefined
        : `out of time, though its instance was away for ${awayMs} ms`;
    },
    whyGivenUp({ code, executionId, requestId }, answerMs) {
      const patienceMs = PATIENCE_MS[code];
      const run = runs.get(executionId ?? '') ?? runs.get(requestId ?? '');
      if (patienceMs === undefined || !run) return undefined;
      const outages = during(run);
      const longest = Math.max(0, ...outages.map(({ fromMs, toMs }) => toMs - fromMs));
      // The answer was due, and its instance away.
      const isDue = run.toMs - run.fromMs >= answerMs && outages.some(({ toMs }) => toMs >= run.toMs);
      return longest >= patienceMs || isDue
        ? undefined
        : `${code}, though its instance was never away for longer than ${longest} ms`;
    },
  };
}

async function readLog(
  logs: string,
  gateway: string,
  outages: Map<string, Outage[]>,
  runs: Map<string, Run>,
): Promise<void> {
  const links = new Map<string, number>();
  for await (const line of readLogLines(join(logs, gateway))) {
    const atMs = Date.parse(String(line.time));
    const key = `${gateway}/${line.instance}`;
    if (line.event === 'gateway_started') links.clear();
    else if (line.event === 'link_joined') {
      links.set(key, (links.get(key) ?? 0) + 1);
      const last = outages.get(key)?.at(-1);
      if (last && last.toMs === Number.POSITIVE_INFINITY) last.toMs = atMs;
    } else if (line.event === 'link_left') {
      links.set(key, (links.get(key) ?? 0) - 1);
      if (links.get(key) === 0)
        outages.set(key, [...(outages.get(key) ?? []), { fromMs: atMs, toMs: Number.POSITIVE_INFINITY }]);
    } else if (line.event === 'execution' && (line.code !== null || line.outcome === 'timed_out')) {
      const instance = String(line.instance);
      const run = { gateway, instance, fromMs: atMs - Number(line.total_ms), toMs: atMs };
      for (const id of [line.execution_id, line.request_id]) runs.set(String(id), run);
    }
  }
}
