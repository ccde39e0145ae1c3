import { once } from 'node:events';
import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { createJsonLog as createAgentLog } from '../../agent/log.ts';
import { createJsonLog as createGatewayLog } from '../../gateway/node/json-log.ts';
import { createLineWriter, MAX_LOG_WAITING_BYTES } from '../../shared/log-lines.ts';

test('log lines that nobody reads are bounded, and how many were left out is said once there is room', async () => {
  const read: string[] = [];
  let go: (() => void) | undefined;
  let isRead = false;
  const pipe = new Writable({
    decodeStrings: false,
    write(line: string, _encoding, taken) {
      read.push(line);
      if (isRead) taken();
      else go = taken;
    },
  });
  const write = createLineWriter(pipe);
  const line = `${JSON.stringify({ event: 'execution', told: 'x'.repeat(1_000) })}\n`;
  const fits = Math.floor(MAX_LOG_WAITING_BYTES / line.length);
  for (let at = 0; at < fits; at += 1) write(line);
  expect(pipe.writableLength).toBe(fits * line.length);
  for (let at = 0; at < 500; at += 1) write(line);
  expect(pipe.writableLength).toBe(fits * line.length);
  isRead = true;
  const drained = once(pipe, 'drain');
  go?.();
  await drained;
  expect(read).toEqual(Array(fits).fill(line));
  write('{"event":"next"}\n');
  write('{"event":"last"}\n');
  expect(read.slice(fits)).toEqual(['{"event":"next","lines_lost":500}\n', '{"event":"last"}\n']);
});

test('a log line has no character that a terminal heeds, whoever chose what it tells, and the same text', () => {
  const evil = 'kid\u001b[2J\u009b2J\u009d0;x\u007f\u202e\u2028é';
  const lines: string[] = [];
  createGatewayLog((line) => lines.push(line))({ level: 'warn', event: 'key_refused', kid: evil });
  createAgentLog({ write: (line) => lines.push(line), wall: () => 0 })('said', { kid: evil });
  for (const line of lines) {
    expect(line).toMatch(/^[\u0020-\u007e\u00a0-\u2027]+\n$/);
    expect(JSON.parse(line).kid).toBe(evil);
  }
  expect(lines).toHaveLength(2);
});
