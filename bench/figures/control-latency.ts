import { startTcpProxy, type TcpProxy } from '../../test/fakes/tcp-proxy.ts';
import { type Front, startFront } from '../processes.ts';
import { ms, type Row } from '../row.ts';
import { p50, timed } from '../stats.ts';

const BYTES_PER_SECOND = 10_000_000;
const PRINTERS = 4;
const SAMPLES = 150;
const TWO_GB = 2_000_000_000;
const CHATTY = 200;
/** All of them together are 2,000 lines a second. */
const EVERY_MS = 100;
const TEMPLATES = `
templates:
  - {name: default, pool: {min: ${CHATTY + 2}, max: ${CHATTY + 2}}, reuse: reset, resources: {cpu_seconds: 60}}
`;
const PRINTER = `
import os
block = b"x" * 65536
while True:
    os.write(1, block)
`;
const TWO_GB_PRINTER = `
import os
block = b"x" * 65536
for _ in range(${Math.ceil(TWO_GB / 65536)}):
    os.write(1, block)
`;
const TALKER = `
import time
while True:
    print("x" * 80, flush=True)
    time.sleep(${EVERY_MS / 1_000})
`;

/**
 * How long control frames wait on a 10 MB/s wire: STATUS and its answer, asked through GET /v1/executions/{id}, less the
 * same on the idle wire. First behind bulk, several printers whose readers keep up; then beside 200 chatty executions and
 * a printer of 2 GB whose reader takes nothing.
 */
export async function controlLatency(): Promise<Row[]> {
  let proxy: TcpProxy | undefined;
  await using front = await startFront({
    templates: TEMPLATES,
    environment: { MAX_OUTPUT_BYTES: '4000000000' },
    between: async (port) => {
      proxy = await startTcpProxy(port);
      proxy.setRate(BYTES_PER_SECOND);
      return proxy.port;
    },
    warm: ['default'],
  });
  const { execution_id } = (await front.client.post('/v1/execute', { code: 'pass' })) as {
    execution_id: string;
  };
  const ask = () => front.client.get(`/v1/executions/${execution_id}`);
  for (let turn = 0; turn < 20; turn += 1) await ask();
  const unloaded = await sample(ask);
  const readers = await Promise.all(Array.from({ length: PRINTERS }, () => listen(front, PRINTER)));
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const loaded = await sample(ask);
  for (const reader of readers) reader.destroy();
  const beside = await besideTalkers(front, ask);
  await proxy?.[Symbol.asyncDispose]();
  return [
    {
      name: 'control frames under bulk, 10 MB/s link',
      figure: `${ms(loaded)} p50`,
      baseline: `${ms(unloaded)} unloaded`,
      value: loaded - unloaded,
    },
    {
      name: 'control frames beside 200 chatty executions and a stalled 2 GB printer',
      figure: `${ms(beside.latency)} p50, ${CHATTY} at once, ${Math.round(beside.linesPerSecond)} lines/s`,
      baseline: `${ms(unloaded)} unloaded`,
      value: beside.latency - unloaded,
    },
  ];
}

async function besideTalkers(
  front: Front,
  ask: () => Promise<unknown>,
): Promise<{ latency: number; linesPerSecond: number }> {
  const stalled = await front.client.open('/v1/execute/stream', { code: TWO_GB_PRINTER, timeout_ms: 60_000 });
  stalled.on('error', () => undefined);
  stalled.pause();
  const talkers = await Promise.all(Array.from({ length: CHATTY }, () => listen(front, TALKER)));
  const said = talkers.map(() => 0);
  for (const [index, talker] of talkers.entries())
    talker.on('data', (chunk: Buffer) => {
      said[index] = (said[index] ?? 0) + chunk.toString('latin1').split('event: output').length - 1;
    });
  const fromMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const latency = await sample(ask);
  const seconds = (performance.now() - fromMs) / 1_000;
  for (const each of [...talkers, stalled]) each.destroy();
  if (said.includes(0)) throw new Error(`${said.filter((count) => count === 0).length} talkers said nothing`);
  return { latency, linesPerSecond: said.reduce((sum, count) => sum + count, 0) / seconds };
}

async function listen(front: Front, code: string) {
  const answer = await front.client.open('/v1/execute/stream', {
    code,
    timeout_ms: 60_000,
    queue_timeout_ms: 60_000,
  });
  if (answer.statusCode !== 200) throw new Error(`a program was answered ${answer.statusCode}`);
  answer.on('error', () => undefined);
  return answer.resume();
}

async function sample(ask: () => Promise<unknown>): Promise<number> {
  const samples: number[] = [];
  for (let turn = 0; turn < SAMPLES; turn += 1) samples.push(await timed(ask));
  return p50(samples);
}
