import { once } from 'node:events';
import { startTcpProxy, type TcpProxy } from '../../test/fakes/tcp-proxy.ts';
import { type Front, startFront } from '../processes.ts';
import { ms, type Row } from '../row.ts';
import { p50, timed } from '../stats.ts';

const BYTES_PER_SECOND = 10_000_000;
const PRINTERS = 4;
const SAMPLES = 150;
const TWO_GB = 2_000_000_000;
const CHATTY = 200;
const CHATTY_AT_ONCE = 20;
const TEMPLATES = `
templates:
  - {name: default, pool: {min: ${CHATTY_AT_ONCE + 2}, max: ${CHATTY_AT_ONCE + 2}}, reuse: reset, resources: {cpu_seconds: 60}}
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
/** A line every 20 ms for two seconds. */
const TALKER = `
import time
for line in range(100):
    print(line, "x" * 80, flush=True)
    time.sleep(0.02)
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
  const readers = await Promise.all(Array.from({ length: PRINTERS }, () => print(front)));
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
      figure: `${ms(beside)} p50, ${CHATTY_AT_ONCE} at once`,
      baseline: `${ms(unloaded)} unloaded`,
      value: beside - unloaded,
    },
  ];
}

async function besideTalkers(front: Front, ask: () => Promise<unknown>): Promise<number> {
  const stalled = await front.client.open('/v1/execute/stream', { code: TWO_GB_PRINTER, timeout_ms: 60_000 });
  stalled.on('error', () => undefined);
  stalled.pause();
  let left = CHATTY;
  let sampled = false;
  const talking = Array.from({ length: CHATTY_AT_ONCE }, async () => {
    // Goes on until the samples are taken, where the machine is slow.
    while (left-- > 0 || !sampled) {
      const answer = await front.client.open('/v1/execute/stream', {
        code: TALKER,
        timeout_ms: 60_000,
        queue_timeout_ms: 60_000,
      });
      if (answer.statusCode !== 200) throw new Error(`a talker was answered ${answer.statusCode}`);
      answer.resume();
      await once(answer, 'close');
    }
  });
  const beside = await sample(ask);
  sampled = true;
  await Promise.all(talking);
  stalled.destroy();
  return beside;
}

async function print(front: Front) {
  const answer = await front.client.open('/v1/execute/stream', { code: PRINTER, timeout_ms: 60_000 });
  if (answer.statusCode !== 200) throw new Error(`the printer was answered ${answer.statusCode}`);
  answer.on('error', () => undefined);
  return answer.resume();
}

async function sample(ask: () => Promise<unknown>): Promise<number> {
  const samples: number[] = [];
  for (let turn = 0; turn < SAMPLES; turn += 1) samples.push(await timed(ask));
  return p50(samples);
}
