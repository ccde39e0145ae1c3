import { once } from 'node:events';
import { type Front, residentBytes, startFront } from '../processes.ts';
import type { Row } from '../row.ts';

const TWO_GB = 2_000_000_000;
const CHATTY = 200;
/** Less than the 15 s after which a reader that takes nothing loses its stream. */
const STALL_MS = 10_000;
const LOOK_MS = 100;
const MB = 1_048_576;
const TEMPLATES = `
templates:
  - {name: default, pool: {min: 4, max: 4}, reuse: reset, resources: {cpu_seconds: 60}}
`;
const PRINTER = `
import os
block = b"x" * 65536
for _ in range(${Math.ceil(TWO_GB / 65536)}):
    os.write(1, block)
`;

/** What a 2 GB printer to a reader that stalls costs gateway and agent, beside 200 short executions. */
export async function memory(): Promise<Row[]> {
  const environment = { MAX_OUTPUT_BYTES: String(TWO_GB) };
  await using front = await startFront({ templates: TEMPLATES, environment, warm: ['default'] });
  await chat(front);
  const idle = { gateway: residentBytes(front.gateway), agent: residentBytes(front.agent) };
  const peak = { ...idle };
  const stalled = await front.client.open('/v1/execute/stream', { code: PRINTER, timeout_ms: 60_000 });
  stalled.pause();
  const chatting = chat(front);
  const end = performance.now() + STALL_MS;
  while (performance.now() < end) {
    peak.gateway = Math.max(peak.gateway, residentBytes(front.gateway));
    peak.agent = Math.max(peak.agent, residentBytes(front.agent));
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  await chatting;
  stalled.destroy();
  await once(stalled, 'close');
  return (['gateway', 'agent'] as const).map((side) => ({
    name: `${side} memory, 2 GB to a stalled reader` as const,
    figure: `${(peak[side] / MB).toFixed(0)} MB`,
    baseline: `${(idle[side] / MB).toFixed(0)} MB idle`,
    value: (peak[side] - idle[side]) / MB,
  }));
}

async function chat(front: Front): Promise<void> {
  let left = CHATTY;
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      while (left-- > 0) {
        const answer = (await front.client.post('/v1/execute', {
          code: 'print(1)',
          queue_timeout_ms: 30_000,
        })) as {
          stdout: string;
        };
        if (answer.stdout !== '1\n') throw new Error(`answered ${JSON.stringify(answer)}`);
      }
    }),
  );
}
