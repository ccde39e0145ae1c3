import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { soak } from './soak.ts';

// Exit status: 0 nothing was missed, 1 something was, 2 the arguments are wrong.
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: '1' },
    callers: { type: 'string', default: '16' },
    gateways: { type: 'string', default: '2' },
    agents: { type: 'string', default: '3' },
    logs: { type: 'string' },
  },
});

function numberOf(name: 'minutes' | 'callers' | 'gateways' | 'agents'): number {
  const value = Number(values[name]);
  if (value > 0 && (name === 'minutes' || Number.isInteger(value))) return value;
  process.stderr.write(`--${name} is '${values[name]}': use a number above 0\n`);
  return process.exit(2);
}

const minutes = numberOf('minutes');
const [callers, gateways, agents] = [numberOf('callers'), numberOf('gateways'), numberOf('agents')];
const say = (line: string) => void process.stdout.write(`${line}\n`);
const logs = values.logs ?? (await mkdtemp(join(tmpdir(), 'podgate-soak-')));
await mkdir(logs, { recursive: true });
const { seed } = values;
say(`seed ${seed}, ${minutes} min, ${callers} callers, ${gateways} gateways, ${agents} agents`);
// Once: whoever asks again means it.
const stopping = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stopping.abort());
const { signal } = stopping;
const tally = await soak({
  seed,
  durationMs: minutes * 60_000,
  callers,
  gateways,
  agents,
  logs,
  say,
  signal,
});
for (const missed of tally.told) say(`MISSED ${JSON.stringify(missed)}`);
if (tally.misses > 0) {
  say(`${tally.misses} missed; logs in ${logs}; again with --minutes ${minutes} --seed ${seed}`);
  process.exitCode = 1;
} else if (!values.logs) await rm(logs, { recursive: true });
