import type { IncomingMessage } from 'node:http';
import { Chunk, SMALL_BYTES } from '../../shared/chunk.ts';

/**
 * Joins the small pieces of a request's body that one read of its socket brings: whoever reads the body takes each for
 * itself, and anybody may send single bytes, without a key too.
 */
export function joinPieces(incoming: IncomingMessage): void {
  const push = incoming.push.bind(incoming);
  let waiting: Chunk | undefined;
  let hasRoom = true;
  const flush = () => {
    if (waiting) hasRoom = push(waiting.bytes);
    waiting = undefined;
  };
  incoming.push = (piece: Uint8Array | null) => {
    if (piece && waiting?.append(piece)) return hasRoom;
    flush();
    if (!piece || piece.byteLength > SMALL_BYTES) {
      hasRoom = push(piece);
      return hasRoom;
    }
    waiting = new Chunk(piece);
    // Behind all that was read: ticks have their turn between two pieces.
    setImmediate(flush);
    return hasRoom;
  };
}
