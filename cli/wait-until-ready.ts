import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentStatus } from '../agent/start-agent.ts';
import type { RunningGateway } from '../gateway/node/serve-gateway.ts';
import { type Io, printable, write } from './io.ts';

const LOOK_MS = 5;
/** What the first sandbox, or the reason why there is none, has to come before the greeting. */
const WARM_MS = 2_000;
/** Who waits longer than this is told what for. */
const SILENT_MS = 3_000;

/** Waits until the first execution would find a warm sandbox, or for the reason why none comes, as a terminal may show it. */
export async function waitUntilReady(
  gateway: RunningGateway,
  status: () => Pick<AgentStatus, 'clusters' | 'obstacles' | 'lastLinkEnd'>,
  io: Pick<Io, 'stderr' | 'signal'>,
): Promise<string | undefined> {
  let tellMs = performance.now() + SILENT_MS;
  let greetMs = Number.POSITIVE_INFINITY;
  while (!io.signal.aborted) {
    const { clusters, obstacles, lastLinkEnd } = status();
    const trouble = troubleOf(clusters);
    if (trouble !== undefined) return printable(trouble);
    const { ok } = await gateway.gateway.fetch(new Request(`${gateway.url}/ready`));
    if (ok) greetMs = Math.min(greetMs, performance.now() + WARM_MS);
    const isWarm = clusters.some(({ pools }) => Object.values(pools).some(({ idle }) => idle > 0));
    if ((ok && isWarm) || performance.now() >= greetMs) return undefined;
    if (!ok && performance.now() >= tellMs) {
      tellMs = Number.POSITIVE_INFINITY;
      await write(io.stderr, waiting(gateway.url, obstacles, lastLinkEnd));
    }
    await sleep(LOOK_MS, undefined, { signal: io.signal }).catch(() => undefined);
  }
  return undefined;
}

function waiting(url: string, obstacles: readonly string[], lastEnd: AgentStatus['lastLinkEnd']): string {
  const why = [...obstacles, ...(lastEnd ? [`The agent's last link: ${lastEnd.detail}`] : [])];
  return `podgate dev: still waiting for its own agent to join ${url}. ${printable(why.join(' '))} It is tried again; --log shows each attempt.\n`;
}

/** Of clusters none of which can serve, the first that says why. */
function troubleOf(clusters: AgentStatus['clusters']): string | undefined {
  if (clusters.some(({ state }) => state !== 'unavailable')) return undefined;
  for (const { detail, templates } of clusters) {
    const trouble = templates.find((template) => template.trouble !== null)?.trouble?.detail;
    // The template's words are for callers; its cluster's name the engine or the context.
    if (trouble !== undefined) return detail === trouble ? trouble : [trouble, detail].join(' ');
  }
  return undefined;
}
