import { startTcpProxy, type TcpProxy } from '../../test/fakes/tcp-proxy.ts';
import { type Front, startFront } from '../processes.ts';
import { ms, type Row } from '../row.ts';
import { p50, timed } from '../stats.ts';

const BYTES_PER_SECOND = 10_000_000;
const PRINTERS = 4;
const SAMPLES = 150;
const TEMPLATES = `
templates:
  - {name: default, pool: {min: 6, max: 6}, reuse: reset, resources: {cpu_seconds: 60}}
`;
const PRINTER = `
import os
block = b"x" * 65536
while True:
    os.write(1, block)
`;

/**
 * How long control frames wait behind bulk on a 10 MB/s wire: STATUS and its answer, asked through
 * GET /v1/executions/{id}, with several printers whose readers keep up, less the same on the idle wire.
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
  await proxy?.[Symbol.asyncDispose]();
  return [
    {
      name: 'control frames under bulk, 10 MB/s link',
      figure: `${ms(loaded)} p50`,
      baseline: `${ms(unloaded)} unloaded`,
      value: loaded - unloaded,
    },
  ];
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
