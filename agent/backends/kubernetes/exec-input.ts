import { WebSocket } from 'ws';
import { Failure } from '../../../shared/errors.ts';
import { CHANNEL } from './exec-protocol.ts';

/** One WebSocket message: servers read a whole one before they hand it on. */
const MAX_SEND_BYTES = 65_536;

/** Sends what was written in one turn as few messages. `done` is called when the last has left for the kernel. */
export function sendInput(
  socket: WebSocket,
  chunks: readonly Buffer[],
  done: (error?: Error | null) => void,
): void {
  if (socket.readyState !== WebSocket.OPEN) {
    done(new Failure('sandbox_lost', 'The exec stream is closed.', { started: 'unknown' }));
    return;
  }
  const messages: Buffer[] = [];
  let parts: Uint8Array[] = [];
  let size = 0;
  const flush = () => {
    if (size === 0) return;
    messages.push(Buffer.concat([Uint8Array.of(CHANNEL.stdin), ...parts]));
    parts = [];
    size = 0;
  };
  for (const chunk of chunks) {
    for (let from = 0; from < chunk.byteLength; ) {
      const part = chunk.subarray(from, from + MAX_SEND_BYTES - size);
      parts.push(part);
      size += part.byteLength;
      from += part.byteLength;
      if (size === MAX_SEND_BYTES) flush();
    }
  }
  flush();
  const last = messages.pop() ?? Buffer.of(CHANNEL.stdin);
  for (const message of messages) socket.send(message);
  socket.send(last, (cause) => done(cause ?? null));
}
