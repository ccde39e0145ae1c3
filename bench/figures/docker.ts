import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { listContainers } from '../../agent/backends/docker/containers.ts';
import { engineAddress } from '../../agent/backends/docker/engine-address.ts';
import { createEngineClient } from '../../agent/backends/docker/engine-client.ts';
import { findEngine } from '../../test/fakes/find-engine.ts';
import { type Front, startFront } from '../processes.ts';
import { ms, type Row } from '../row.ts';
import { interleaved, p50, p99, throughput } from '../stats.ts';
import { warmUp } from '../warm-up.ts';

const IN_FLIGHT = 32;
const TOTAL = 1_000;
const ROUNDS = 30;
const INSTALLATION = `bench-${process.pid}`;
const MODES = ['single_use', 'reset'] as const;
type Mode = (typeof MODES)[number];

const run = promisify(execFile);
type Docker = (...args: string[]) => Promise<string>;

/**
 * Warm programs in containers, beside a container for each and beside a command in one container for each; then a thousand
 * of each reuse mode with 32 in flight, every answer checked, and the containers that are left.
 */
export async function docker(): Promise<Row[]> {
  const engine = await findEngine();
  if ('trouble' in engine) {
    process.stderr.write(`skipped: ${engine.trouble}\n`);
    return [];
  }
  const { host, image } = engine;
  const command: Docker = async (...args) => (await run('docker', ['-H', host, ...args])).stdout;
  const rows: Row[] = [];
  {
    await using front = await startFront({
      templates: templatesFor(image),
      environment: { EXECUTOR_BACKEND: 'docker', DOCKER_HOST: host, PODGATE_INSTALLATION: INSTALLATION },
      warm: ['single-use', 'reset'],
    });
    rows.push(...(await latency(front, command, image)));
    for (const mode of MODES) rows.push(await answers(front, mode));
  }
  rows.push(await left(host));
  return rows;
}

function templatesFor(image: string): string {
  const pool = { min: 4, max: 8 };
  const templates = MODES.map((reuse) => ({ name: reuse.replace('_', '-'), image, reuse, pool }));
  return JSON.stringify({ templates });
}

function ask(front: Front, mode: Mode, n: number): Promise<unknown> {
  return front.client.post('/v1/execute', {
    code: `print(${n} * 3)`,
    template: mode.replace('_', '-'),
    timeout_ms: 30_000,
    queue_timeout_ms: 300_000,
  });
}

async function latency(front: Front, command: Docker, image: string): Promise<Row[]> {
  const python = ['python3', '-c', 'print(3)'];
  const held = (await command('run', '-d', '--network', 'none', image, 'sleep', '3600')).trim();
  const ways = [
    ['docker run', () => command('run', '--rm', '--network', 'none', image, ...python)],
    ['docker exec', () => command('exec', held, ...python)],
  ] as const;
  const rows: Row[] = [];
  try {
    await warmUp(() => ask(front, 'reset', 1));
    for (const mode of MODES)
      for (const [way, baseline] of ways) {
        const samples = await interleaved(ROUNDS, () => ask(front, mode, 1), baseline, 1);
        const figure = p50(samples.figure);
        rows.push({
          name: `docker, warm print(1), ${mode}, against ${way}`,
          figure: `${ms(figure)} p50, ${ms(p99(samples.figure))} p99`,
          baseline: `${ms(p50(samples.baseline))} ${way}`,
          value: p50(samples.baseline) / figure,
        });
      }
  } finally {
    await command('rm', '-f', held);
  }
  return rows;
}

async function answers(front: Front, mode: Mode): Promise<Row> {
  let next = 0;
  let wrong = 0;
  const rate = await throughput(TOTAL, IN_FLIGHT, async () => {
    const n = next++;
    const answer = (await ask(front, mode, n).catch(() => ({}))) as { stdout?: string };
    if (answer.stdout !== `${n * 3}\n`) wrong += 1;
  });
  return {
    name: `docker, wrong of 1,000, 32 in flight, ${mode}`,
    figure: `${wrong} wrong`,
    baseline: `${rate.toFixed(1)}/s`,
    value: wrong,
  };
}

async function left(host: string): Promise<Row> {
  const client = createEngineClient(
    engineAddress({ host, tlsVerify: false, certPath: undefined, sockets: [] }),
  );
  try {
    const { length } = await listContainers(client, { installation: INSTALLATION });
    return { name: 'docker, containers left', figure: `${length}`, baseline: '–', value: length };
  } finally {
    client.close();
  }
}
