import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { Gateway } from '../../gateway/create-gateway.ts';
import { createHttpServer } from '../../gateway/node/http-server.ts';

/** A gateway's server whose requests are answered with how many pieces their bodies came in, and with all of them. */
async function start() {
  const fetch = async (request: Request) => {
    const pieces: Uint8Array[] = [];
    for await (const piece of request.body ?? []) pieces.push(piece);
    return new Response(`${pieces.length} ${Buffer.concat(pieces)}`);
  };
  const { server, cut } = createHttpServer(Promise.resolve({ fetch } as unknown as Gateway));
  server.listen(0, '127.0.0.1');
  onTestFinished(() => {
    cut();
    server.close();
  });
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  return async (...writes: string[]) => {
    let heard = '';
    socket.on('data', (chunk) => {
      heard += chunk;
    });
    for (const text of writes) await new Promise<void>((sent) => socket.write(text, () => sent()));
    await expect.poll(() => heard.split('\r\n\r\n')[1] ?? '', { timeout: 10_000 }).toMatch(/\d .*\n/s);
    const [, pieces, body] = /^(?:[0-9a-f]+\r\n)?(\d+) (.*?\n)/s.exec(heard.split('\r\n\r\n')[1] ?? '') ?? [];
    return { pieces: Number(pieces), body };
  };
}

const HEAD = 'POST / HTTP/1.1\r\nHost: a\r\n';

test('a body in single bytes is read in pieces as large as its socket brings them, each byte once and in its place', async () => {
  const ask = await start();
  const body = `${Array.from({ length: 20_000 }, (_, at) => at % 10).join('')}\n`;
  const chunks = [...body].map((byte) => `1\r\n${byte}\r\n`).join('');
  const answer = await ask(
    `${HEAD}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n${chunks}0\r\n\r\n`,
  );
  expect(answer.body).toBe(body);
  expect(answer.pieces).toBeLessThan(100);
});

test('small pieces and large ones keep their order, and a body that pauses is read on', async () => {
  const ask = await start();
  const chunkOf = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;
  const parts = ['a', 'b'.repeat(4_096), 'c', 'd'.repeat(4_097), 'e', 'f'.repeat(300_000), 'g\n'];
  const [first = '', ...rest] = parts.map(chunkOf);
  const head = `${HEAD}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n`;
  const answer = await ask(head, first, ...rest, '0\r\n\r\n');
  expect(answer.body).toBe(parts.join(''));
});
