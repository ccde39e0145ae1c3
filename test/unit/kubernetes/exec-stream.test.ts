import { EventEmitter } from 'node:events';
import { expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { CHANNEL } from '../../../agent/backends/kubernetes/exec-protocol.ts';
import { createExecStream } from '../../../agent/backends/kubernetes/exec-stream.ts';
import { startHeldBytes } from '../../fakes/held-bytes.ts';

const MIB = 1_048_576;

test('the end of a command’s stderr keeps no more of a large message than itself', async () => {
  const heldBytes = startHeldBytes('arrayBuffers');
  const streams = Array.from({ length: 16 }, () => {
    const socket = Object.assign(new EventEmitter(), { terminate() {} });
    const stream = createExecStream(socket as unknown as WebSocket, {});
    for (const text of ['first\n', `${'x'.repeat(4 * MIB)}last\n`])
      socket.emit('message', Buffer.concat([Buffer.of(CHANNEL.stderr), Buffer.from(text)]), true);
    return stream;
  });
  await expect.poll(heldBytes).toBeLessThan(4 * MIB);
  for (const stream of streams) {
    expect(stream.stderrTail()).toMatch(/^x{4091}last\n$/);
    stream.destroy();
  }
});
