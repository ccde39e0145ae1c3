import { readFileSync } from 'node:fs';
import { LINKS_PER_REPLICA } from '../../shared/limits.ts';
import { type Fleet, type FleetGateway, startFleet } from '../../test/fakes/fleet.ts';
import { type AgentCrowd, startAgentCrowd } from '../agent-crowd.ts';
import type { Row } from '../row.ts';

const AGENTS = 5_000;
const LINKS = AGENTS * LINKS_PER_REPLICA;
const WARM_AGENTS = 50;
const RETURNING = 1_000;
/** Agents share them: to make one takes longer than to dial. */
const TOKENS = 250;
const KB = 1_024;
const MB = 1_048_576;
const SETTLE_MS = 5_000;
/** Three heartbeats of every link. */
const BEATS_MS = 30_000;
/** Of user and system time in /proc. */
const TICKS_PER_SECOND = 100;
const LOOK_MS = 50;
const GIVE_UP_MS = 180_000;
/** After all are back, whoever comes once more is of a second herd. */
const AFTER_MS = 15_000;

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** What links that do nothing but heartbeats cost the gateway, in memory and processor time, and how they come back. */
export async function idleLinks(): Promise<Row[]> {
  return [...(await idle()), ...(await returning())];
}

async function idle(): Promise<Row[]> {
  const { fleet, gateway } = await startGateway();
  await using _ = fleet;
  using _warm = await crowd(fleet, gateway, WARM_AGENTS);
  await pause(SETTLE_MS);
  const before = gateway.residentBytes();
  using many = await crowd(fleet, gateway, AGENTS);
  await pause(SETTLE_MS);
  const [ticks, beganMs] = [processorTicks(gateway), performance.now()];
  await pause(BEATS_MS);
  const share =
    ((processorTicks(gateway) - ticks) / TICKS_PER_SECOND / (performance.now() - beganMs)) * 1_000 * 100;
  const after = gateway.residentBytes();
  if (many.links !== LINKS) throw new Error(`${LINKS - many.links} of ${LINKS} idle links were lost`);
  return [
    {
      name: 'idle link at the gateway',
      figure: `${((after - before) / LINKS / KB).toFixed(1)} KB, ${LINKS} links`,
      baseline: `${(before / MB).toFixed(0)} MB before`,
      value: (after - before) / LINKS / KB,
    },
    {
      name: 'heartbeats of 10,000 links at the gateway',
      figure: `${share.toFixed(1)} % of a processor`,
      baseline: `${LINKS} links, one every 10 s each way`,
      value: share,
    },
  ];
}

/** A gateway is killed and started again: its agents come back by themselves, and not all at once. */
async function returning(): Promise<Row[]> {
  const { fleet, gateway } = await startGateway();
  await using _ = fleet;
  using agents = await crowd(fleet, gateway, RETURNING);
  const links = RETURNING * LINKS_PER_REPLICA;
  await pause(SETTLE_MS);
  const dialsBefore = agents.dials.length;
  gateway.kill('SIGKILL');
  await gateway.ended();
  gateway.start();
  await gateway.logged(({ event }) => event === 'gateway_started');
  const upMs = performance.now();
  await allJoined(agents, links);
  const backMs = performance.now() - upMs;
  const dials = agents.dials.slice(dialsBefore).filter((atMs) => atMs >= upMs);
  const atBack = agents.dials.length;
  await pause(AFTER_MS);
  const second = agents.dials.length - atBack;
  const busiest = Math.max(...perSecond(dials, upMs));
  return [
    {
      name: '1,000 agents back after a gateway was killed',
      figure: `${(backMs / 1_000).toFixed(1)} s, ${links} links, ${busiest} dials in the busiest second`,
      baseline: `${dials.length} dials since it listened`,
      value: backMs / 1_000,
    },
    {
      name: 'dials of a second herd',
      figure: `${second} in the ${AFTER_MS / 1_000} s after all were back`,
      baseline: `${agents.links} links`,
      value: second,
    },
  ];
}

async function startGateway(): Promise<{ fleet: Fleet; gateway: FleetGateway }> {
  const fleet = await startFleet({ gateways: 1, agents: [] });
  return { fleet, gateway: fleet.gateways[0] as FleetGateway };
}

/** Agents that have joined. */
async function crowd(fleet: Fleet, gateway: FleetGateway, agents: number): Promise<AgentCrowd> {
  const tokens: string[] = [];
  while (tokens.length < Math.min(agents, TOKENS)) tokens.push(await fleet.agentToken('crowd'));
  const started = await startAgentCrowd({
    agents,
    gatewayUrl: gateway.url,
    token: (index) => tokens[index % TOKENS] as string,
  });
  await allJoined(started, agents * LINKS_PER_REPLICA);
  return started;
}

async function allJoined(agents: AgentCrowd, links: number): Promise<void> {
  const untilMs = performance.now() + GIVE_UP_MS;
  while (agents.links < links) {
    if (performance.now() > untilMs) throw new Error(`only ${agents.links} of ${links} links joined`);
    await pause(LOOK_MS);
  }
}

function perSecond(times: readonly number[], fromMs: number): number[] {
  const counts: number[] = [];
  for (const atMs of times) {
    const second = Math.floor((atMs - fromMs) / 1_000);
    counts[second] = (counts[second] ?? 0) + 1;
  }
  return Array.from(counts, (count) => count ?? 0);
}

/** Processor time that a process has used. */
function processorTicks({ pid }: FleetGateway): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const [, utime = '0', stime = '0'] = /^\d+ .*\) (?:\S+ ){11}(\d+) (\d+)/.exec(stat) ?? [];
  return Number(utime) + Number(stime);
}
