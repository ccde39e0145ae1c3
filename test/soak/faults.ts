import { setTimeout as sleep } from 'node:timers/promises';
import type { Fleet } from '../fakes/fleet.ts';
import type { FleetProcess } from '../fakes/fleet-process.ts';
import type { TcpProxy } from '../fakes/tcp-proxy.ts';
import { type Fault, type Lane, spanMs } from './schedule.ts';

/** What was done, as far as answers are judged by it. */
export type FaultLog = {
  /** Told of every fault as it comes. */
  readonly write: (line: object) => void;
  /** How often each kind of fault was there. */
  readonly counts: Map<Fault['do'], number>;
  /** How late the one was made that came latest: a place that is held up makes none meanwhile. */
  latestMs: number;
  /** When gateways were killed: connections to them broke then. */
  readonly gatewayKills: number[];
  /** Processes that were told to stop and ended otherwise than well. */
  readonly badEnds: string[];
};

/** Longer than any drain deadline of the fleet. */
const DRAIN_MS = 30_000;

/** Makes the faults of one place, each at its time, or at once where the one before took longer. */
export async function carryOut(
  fleet: Fleet,
  { place, faults }: Lane,
  log: FaultLog,
  signal: AbortSignal,
): Promise<void> {
  const beganMs = performance.now();
  const [kind, index = '0'] = place.split('-');
  const agent = fleet.agents[Number(index)];
  const process = kind === 'gateway' ? fleet.gateways[Number(index)] : agent;
  const wire = agent?.wire;
  if (!process) throw new Error(`there is no ${place}`);
  for (const fault of faults) {
    await sleep(Math.max(0, beganMs + fault.atMs - performance.now()), undefined, { signal });
    log.latestMs = Math.max(log.latestMs, performance.now() - beganMs - fault.atMs);
    log.counts.set(fault.do, (log.counts.get(fault.do) ?? 0) + 1);
    log.write({ ...fault, place });
    if (kind === 'wire' && wire) await breakWire(wire, fault);
    else await breakProcess(process, fault, log);
  }
}

/** Ends what a wire still would do, to the next bytes or to new connections. */
export function lift(wire: TcpProxy): void {
  wire.corrupt(0);
  wire.stall(false);
  wire.accept(true);
  wire.setRate(Number.POSITIVE_INFINITY);
}

async function breakWire(wire: TcpProxy, fault: Fault): Promise<void> {
  switch (fault.do) {
    case 'cut':
      wire.cut();
      break;
    case 'stall': {
      const direction = fault.direction === 'both' ? undefined : fault.direction;
      wire.stall(true, direction);
      await sleep(fault.forMs);
      wire.stall(false, direction);
      break;
    }
    case 'half_open':
      wire.halfOpen(fault.gone);
      break;
    case 'slow':
      wire.setRate(fault.bytesPerSecond);
      await sleep(fault.forMs);
      wire.setRate(Number.POSITIVE_INFINITY);
      break;
    case 'corrupt':
      wire.corrupt(fault.slices);
      break;
    case 'refuse':
      wire.accept(false);
      wire.cut();
      await sleep(fault.forMs);
      wire.accept(true);
      break;
    default:
      throw new Error(`a wire cannot ${fault.do}`);
  }
}

async function breakProcess(process: FleetProcess, fault: Fault, log: FaultLog): Promise<void> {
  switch (fault.do) {
    case 'stop':
      process.kill('SIGSTOP');
      await sleep(fault.forMs);
      process.kill('SIGCONT');
      break;
    case 'kill':
      if (process.name.startsWith('gateway')) log.gatewayKills.push(performance.now());
      process.kill('SIGKILL');
      await process.ended();
      await sleep(spanMs(fault));
      process.start();
      break;
    case 'drain': {
      // One that is told to stop before it listens just ends, which says nothing.
      await process.logged(({ event }) => event === 'gateway_started' || event === 'agent_started');
      process.kill('SIGTERM');
      const hurry = setTimeout(() => process.kill('SIGKILL'), DRAIN_MS);
      const end = await process.ended();
      clearTimeout(hurry);
      if (end !== 0) log.badEnds.push(`${process.name} was told to stop and ended with ${end}`);
      process.start();
      break;
    }
    default:
      throw new Error(`a process cannot ${fault.do}`);
  }
}
