import { createReadStream, createWriteStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Fleet, startFleet } from '../fakes/fleet.ts';
import { counted } from '../fakes/run-counter.ts';
import { createAsking, type Seen } from './asking.ts';
import { carryOut, type FaultLog, lift } from './faults.ts';
import { readInstanceLives } from './instance-lives.ts';
import { isOutOfTime, judge, PATIENCE_MS, withGap } from './judge.ts';
import { readKeptOutput } from './kept-output.ts';
import { askKeyed } from './keyed.ts';
import { watchMemory } from './memory-watch.ts';
import { readOutages } from './outages.ts';
import { answerMs, drawProgram, dueMs, type Program } from './programs.ts';
import { createRandom } from './random.ts';
import { planFaults } from './schedule.ts';
import { type StandstillWatch, watchStandstills } from './standstill-watch.ts';
import { createTally, type Tally } from './tally.ts';

export type SoakOptions = {
  seed: string;
  durationMs: number;
  callers: number;
  gateways: number;
  agents: number;
  /** A folder for the logs of all processes. */
  logs: string;
  say: (line: string) => void;
  /** Ends it early: what was asked is judged all the same, and everything is taken down. */
  signal?: AbortSignal;
};

const MAX_OUTPUT_BYTES = 134_217_728;
/** What a caller waits who was refused, as Retry-After would have it, or whose connection broke. */
const REFUSED_MS = { least: 200, most: 1_500 };
const SAMPLE_MS = 1_000;
const TELL_MS = 60_000;
const QUIET_MS = 60_000;
/** How long after a kill connections may still be found broken. */
const KILL_ECHO_MS = 2_000;

/** `name` is that of its program; several may have been told of one. */
type Told = {
  name: string;
  program: Program;
  seen: Seen;
  beganMs: number;
  endedMs: number;
  stoodStill: boolean;
};

/** One soak from start to end: faults and callers at once, then everything is looked at again in peace. */
export async function soak(options: SoakOptions): Promise<Tally> {
  const { seed, durationMs, say, logs } = options;
  await using journal = createWriteStream(join(logs, 'soak.log'));
  const write = (line: object) =>
    void journal.write(`${JSON.stringify({ at: new Date().toISOString(), ...line })}\n`);
  const faults: FaultLog = { write, counts: new Map(), latestMs: 0, gatewayKills: [], badEnds: [] };
  const tally = createTally(write);
  const fleet = await startSoakFleet(options);
  const settled: Told[] = [];
  let lines: string[] = [];
  try {
    const baseline = processesOf(fleet);
    const memory = watchMemory(
      [fleet.gateways[0], fleet.agents[0]].flatMap((each) => each ?? []),
      durationMs,
    );
    const beganMs = performance.now();
    const over = new AbortController();
    const still = watchStandstills(() => performance.now());
    const lanes = planFaults({ ...options, seed });
    const stopped = options.signal ?? over.signal;
    const breaking = lanes.map((lane) =>
      carryOut(fleet, lane, faults, stopped).catch((error) => {
        if (!stopped.aborted) throw error;
      }),
    );
    const callers = Array.from({ length: options.callers }, (_, caller) =>
      call({ seed, caller, fleet, tally, faults, still, settled, untilMs: beganMs + durationMs, stopped }),
    );
    const watching = (async () => {
      for (let tick = 1; !over.signal.aborted; tick += 1) {
        await sleep(SAMPLE_MS);
        still.tick();
        memory.sample(performance.now() - beganMs);
        if ((tick * SAMPLE_MS) % TELL_MS === 0) say(progress(tally, performance.now() - beganMs));
      }
    })();
    await Promise.all([...callers, ...breaking]);
    const asked = `${((tally.asked * 1_000) / (performance.now() - beganMs)).toFixed(1)} a second`;
    await lookAtLeftovers(fleet, baseline, tally);
    over.abort();
    await watching;
    recount(fleet, settled, faults, tally);
    for (const why of faults.badEnds) tally.miss({ miss: 'broke', name: 'drain', why });
    for (const { name, why } of memory.risen()) tally.miss({ miss: 'memory', name, why });
    lines = [
      `rate               ${asked}`,
      `faults             ${[...faults.counts].map(([name, count]) => `${name} ${count}`).join(', ')}`,
      `of those planned   ${[...faults.counts.values()].reduce((sum, count) => sum + count, 0)} of ${lanes.reduce((sum, lane) => sum + lane.faults.length, 0)}, the latest ${(faults.latestMs / 1_000).toFixed(1)} s late`,
      still.line(),
      ...memory.lines(),
    ];
  } finally {
    try {
      await fleet[Symbol.asyncDispose]();
    } catch (error) {
      tally.miss({ miss: 'left_over', name: 'fleet', why: String(error) });
    }
  }
  await lookAtOutages(settled, logs, tally);
  await lookAtRepeats(settled, fleet, logs, tally);
  for (const why of await complaintsIn(fleet, logs)) tally.miss({ miss: 'broke', name: 'log', why });
  for (const line of [...tally.lines(), ...lines]) say(line);
  return tally;
}

function startSoakFleet({ gateways, agents, callers, logs }: SoakOptions): Promise<Fleet> {
  // Fewer than callers, so that some wait, and enough for them while an agent is away.
  const pool = Math.ceil(callers / (2 * agents)) + 1;
  const resources = { cpu_seconds: 30, memory_mb: 128 };
  return startFleet({
    gateways,
    agents: Array.from({ length: agents }, () => ({ cluster: 'soak' })),
    tls: true,
    logs,
    templates: [
      { name: 'default', reuse: 'reset', resources, pool: { min: pool, max: pool } },
      { name: 'fresh', reuse: 'single_use', resources, pool: { min: 1, max: 1 } },
    ],
    variables: {
      PODGATE_HEARTBEAT_MS: '2000',
      PODGATE_DRAIN_DELAY_MS: '2500',
      PODGATE_DRAIN_MS: '8000',
      MAX_OUTPUT_BYTES: String(MAX_OUTPUT_BYTES),
    },
  });
}

type Call = {
  seed: string;
  caller: number;
  fleet: Fleet;
  tally: Tally;
  faults: FaultLog;
  still: StandstillWatch;
  settled: Told[];
  untilMs: number;
  stopped: AbortSignal;
};

/** One caller, who asks one thing after the other. */
async function call({
  seed,
  caller,
  fleet,
  tally,
  faults,
  still,
  settled,
  untilMs,
  stopped,
}: Call): Promise<void> {
  await using asking = createAsking(fleet.url, fleet.key);
  for (let step = 0; performance.now() < untilMs && !stopped.aborted; step += 1) {
    const name = `${seed}-${caller}-${step}`;
    const random = createRandom(name);
    const program = counting(drawProgram(random, name), fleet, name);
    const beganMs = performance.now();
    const patienceMs = dueMs(program) + PATIENCE_MS;
    const answers =
      program.reading.as === 'keyed'
        ? await askKeyed(() => createAsking(fleet.url, fleet.key), program, name, patienceMs, random)
        : [await asking.ask(program.request, program.reading, patienceMs)];
    // The first to ask heard it as it came.
    const sights = answers.map((seen, asked) => (asked === 0 ? seen : withGap(program, seen)));
    const endedMs = performance.now();
    tally.take(program.kind, sights);
    for (const seen of sights) {
      const told = {
        name,
        program: withoutInput(program),
        seen,
        beganMs,
        endedMs,
        stoodStill: still.overlaps(beganMs, endedMs),
      };
      const missed = judge(program, seen, factsOf(fleet, faults, told));
      if (missed) tally.miss({ ...missed, name: `${name} (${program.kind}, ${seen.executionId})` });
      else settled.push(told);
    }
    const [seen] = sights as [Seen];
    if (seen.saw !== 'result' && seen.saw !== 'nothing')
      await sleep(random.between(REFUSED_MS.least, REFUSED_MS.most));
  }
}

/** The program counts itself first. */
function counting(program: Program, fleet: Fleet, name: string): Program {
  const { request } = program;
  return { ...program, request: { ...request, code: counted(fleet.counter.at, name) + request.code } };
}

/** What is needed to judge its answers again, of tens of thousands. */
function withoutInput({ request: { timeout_ms = 0, queue_timeout_ms = 0 }, ...program }: Program): Program {
  return { ...program, request: { code: '', timeout_ms, queue_timeout_ms } };
}

function factsOf(fleet: Fleet, { gatewayKills }: FaultLog, { name, beganMs, endedMs, stoodStill }: Told) {
  const killed = (atMs: number) => atMs >= beganMs - KILL_ECHO_MS && atMs <= endedMs;
  return { runs: fleet.counter.count(name), gatewayKilled: gatewayKills.some(killed), stoodStill };
}

/** Everything is over: what has run since its answer shows now. */
function recount(fleet: Fleet, settled: readonly Told[], faults: FaultLog, tally: Tally): void {
  for (const told of settled) {
    const { name, program, seen } = told;
    const missed = judge(program, seen, factsOf(fleet, faults, told));
    if (missed) tally.miss({ ...missed, name: `${name} (${program.kind}, at the end)` });
  }
}

/** Under one key nothing runs twice while an agent lives that knows of it. */
async function lookAtRepeats(
  settled: readonly Told[],
  { counter }: Pick<Fleet, 'counter'>,
  logs: string,
  tally: Tally,
): Promise<void> {
  const lives = await readInstanceLives(logs);
  const ids = new Map<string, string[]>();
  for (const { name, program, seen } of settled)
    if (program.reading.as === 'keyed' && counter.count(name) > 1)
      ids.set(name, [...(ids.get(name) ?? []), seen.executionId ?? '']);
  for (const [name, executionIds] of ids) {
    const why = lives.whyTwice(executionIds, counter.count(name));
    if (why) tally.miss({ miss: 'doubled', name, why });
  }
}

/** A link that is lost ends no execution: what was given up, or held back, was on an instance that did not come back in time. */
async function lookAtOutages(settled: readonly Told[], logs: string, tally: Tally): Promise<void> {
  const outages = await readOutages(logs);
  const kept = await readKeptOutput(logs);
  for (const { name: key, program, seen } of settled) {
    const name = `${key} (${program.kind}, ${seen.executionId})`;
    // Without an id under a key: what is not told may be of another instance than the one that was found for it.
    const isOwn = program.reading.as !== 'keyed' || seen.executionId !== null;
    const givenUp = seen.saw === 'failure' && isOwn ? outages.whyGivenUp(seen, answerMs(program)) : undefined;
    if (givenUp) tally.miss({ miss: 'lost', name, why: givenUp });
    const gap = seen.saw === 'gap' ? kept.whyGap(seen.executionId, seen.atMs) : undefined;
    if (gap) tally.miss({ miss: 'wrongly_reported', name, why: gap });
    // A reader who stalls may go on too late by itself.
    const late = isOutOfTime(program, seen) && program.kind !== 'stalled_reader';
    const why = late ? outages.whyOutOfTime(seen.executionId) : undefined;
    if (why) tally.miss({ miss: 'wrongly_reported', name, why });
  }
}

/** With every fault lifted the fleet comes back by itself, and nothing of what was asked is there any more. */
async function lookAtLeftovers(fleet: Fleet, baseline: readonly number[], tally: Tally): Promise<void> {
  const miss = (name: string, why: string) => tally.miss({ miss: 'left_over', name, why });
  for (const { wire } of fleet.agents) lift(wire);
  // An agent that has often found nobody dials again after a minute at most.
  await fleet.ready().catch(() => fleet.ready().catch((error) => miss('fleet', String(error))));
  const left = async () => {
    const found: string[] = [];
    for (const gateway of fleet.gateways)
      for (const gauge of ['running', 'queued', 'request_bytes', 'output_bytes']) {
        const value = await gateway.metric(gauge).catch(String);
        if (value !== 0) found.push(`${gateway.name} has ${gauge} ${value}`);
      }
    for (const [index, count] of processesOf(fleet).entries())
      if (count > (baseline[index] ?? 0))
        found.push(`agent-${index} has ${count} processes, ${baseline[index]} at the start`);
    for (const agent of fleet.agents)
      for (const { pid, comm } of agent.leftBehind()) found.push(`${agent.name} left ${comm} (${pid})`);
    return found;
  };
  const untilMs = performance.now() + QUIET_MS;
  let found = await left();
  while (found.length > 0 && performance.now() < untilMs) {
    await sleep(SAMPLE_MS);
    found = await left();
  }
  for (const why of found) miss('at the end', why);
}

/** How many processes the sandboxes of each agent are. */
function processesOf(fleet: Fleet): number[] {
  return fleet.agents.map((agent) => agent.sandboxProcesses().length);
}

/** Errors that processes logged, and whatever they wrote that is no log. */
async function complaintsIn(fleet: Fleet, logs: string): Promise<string[]> {
  const found = [...fleet.gateways, ...fleet.agents].flatMap(({ name, complaints }) =>
    complaints === '' ? [] : [`${name}: ${complaints.slice(0, 2_000)}`],
  );
  for (const file of await readdir(logs))
    for await (const line of createInterface(createReadStream(join(logs, file))))
      if (line.includes('"level":"error"')) found.push(`${file}: ${line.slice(0, 2_000)}`);
  return found;
}

function progress(tally: Tally, atMs: number): string {
  return `${Math.round(atMs / 60_000)} min: asked ${tally.asked}, results ${tally.results}, misses ${tally.misses}`;
}
