import { connect, type Socket } from 'node:net';
import { describe, test } from 'vitest';
import { READER_STALL_MS } from '../../shared/limits.ts';
import { describeStack } from '../system/suite.ts';

const MIB = 1_048_576;

/** A reader that takes the head of the answer and then nothing, on a socket with small buffers. */
function stalledReader(
  url: string,
  key: string,
  body: object,
): { socket: Socket; begun: Promise<void>; rest(): Promise<string> } {
  const { hostname, port } = new URL(url);
  const text = JSON.stringify(body);
  const socket = connect({ host: hostname, port: Number(port), onread: undefined });
  socket.write(
    `POST /v1/execute/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
  );
  const begun = new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.once('data', (head) => {
      socket.pause();
      if (String(head).startsWith('HTTP/1.1 200')) resolve();
      else reject(new Error(String(head)));
    });
  });
  return {
    socket,
    begun,
    async rest() {
      const chunks: Buffer[] = [];
      for await (const chunk of socket) chunks.push(chunk);
      return Buffer.concat(chunks).toString();
    },
  };
}

const FLOOD = 'import os\nline = b"y" * 65535 + b"\\n"\nwhile True: os.write(1, line)';

describe('While time passes,', { concurrent: true }, () => {
  const stalled = 40;
  describeStack(
    'with an output cap of 2 GB,',
    {
      templates: [{ name: 'default', pool: { min: 4, max: stalled + 8 } }],
      variables: { MAX_OUTPUT_BYTES: '2147483648' },
    },
    (stack) => {
      test(`${stalled} readers that take nothing hold back their own programs and nobody else`, {
        timeout: 60_000,
      }, async ({ expect }) => {
        const key = await stack().key({ sub: 'stalled' });
        const before = process.memoryUsage().rss;
        const request = { code: FLOOD, timeout_ms: 60_000, queue_timeout_ms: 30_000 };
        const readers = Array.from({ length: stalled }, () => stalledReader(stack().url, key, request));
        await Promise.all(readers.map(({ begun }) => begun));
        const since = Date.now();
        for (let round = 0; round < 5; round += 1) {
          const runs = await Promise.all(Array.from({ length: 8 }, (_, n) => stack().run(`print(${n})`)));
          expect(runs.map(({ stdout }) => stdout)).toEqual(Array.from({ length: 8 }, (_, n) => `${n}\n`));
        }
        expect(Date.now() - since).toBeLessThan(READER_STALL_MS);
        // Gateway and agent both live in this process: a window or two of each stream, and no more.
        expect(process.memoryUsage().rss - before).toBeLessThan(200 * MIB);
        // Fifteen seconds after it last took something each loses its stream, and is told if it ever reads again.
        const lost = () =>
          stack().log.filter(
            ({ of, event, code }) => of === 'gateway' && event === 'execution' && code === 'reader_stalled',
          );
        await expect.poll(() => lost().length, { interval: 50, timeout: 2 * READER_STALL_MS }).toBe(stalled);
        expect(await readers[0]?.rest()).toMatch(
          /event: error\ndata: \{"message":"[^"]+","code":"reader_stalled","started":"yes"\}\n\n/,
        );
        for (const { socket } of readers) socket.destroy();
        await expect.poll(() => stack().agents[0]?.status().running, { interval: 5 }).toBe(0);
      });

      test('a program that is silent has its stream kept alive', { timeout: 40_000 }, async ({ expect }) => {
        const response = await stack().post('/v1/execute/stream', {
          code: 'import time; time.sleep(60)',
          timeout_ms: 16_000,
        });
        expect(await response.text()).toMatch(/^: keep-alive\n\nevent: result\ndata: /);
      });
    },
  );
});
