import { Failure } from '../../shared/errors.ts';
import { HeldBytes } from '../../shared/held-bytes.ts';
import { MAX_REQUEST_BYTES } from '../../shared/limits.ts';
import type { Timers } from '../gateway-deps.ts';
import type { MemoryBudget, MemoryHolder, Reservation } from '../memory-budget.ts';
import { discardRest } from './discard.ts';

/** Bodies up to this length are reserved as declared and read at once. */
export const EAGER_BODY_BYTES = 16_384;

export type ReadBodyOptions = {
  timers: Timers;
  memory: MemoryBudget;
  /** Whom the bytes count for. */
  holder: MemoryHolder;
  maxBytes?: number;
};

/** A request's body, whole. `release` gives its memory back once nothing of it is held any more. */
export type Body = { bytes: Uint8Array; release(): void };

/** Reads a body up to its bound. Rejects with `too_large` after discarding the rest. */
export async function readBody(request: Request, options: ReadBodyOptions): Promise<Body> {
  const { memory, holder, maxBytes = MAX_REQUEST_BYTES } = options;
  const reservation = memory.reserve(holder);
  try {
    const declared = Number(request.headers.get('content-length') ?? Number.NaN);
    // One buffer of a known length is what servers read fastest, and they hold a body to its declared length. What is
    // long is reserved as it comes: a slow sender holds what it sent and not what it spoke of.
    if (declared <= Math.min(EAGER_BODY_BYTES, maxBytes)) {
      claim(reservation, declared);
      const bytes = new Uint8Array(await request.arrayBuffer());
      if (bytes.byteLength > maxBytes) throw tooLarge(maxBytes);
      return { bytes, release: reservation.release };
    }
    return {
      bytes: await readChunks(request, reservation, maxBytes, options.timers),
      release: reservation.release,
    };
  } catch (error) {
    reservation.release();
    if (error instanceof Failure) throw error;
    throw new Failure('invalid_request', 'The request body ended early.', { cause: error });
  }
}

async function readChunks(
  request: Request,
  reservation: Reservation,
  maxBytes: number,
  timers: Timers,
): Promise<Uint8Array> {
  const reader = request.body?.getReader();
  if (!reader) return new Uint8Array(0);
  const held = new HeldBytes();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (held.end + value.byteLength > maxBytes) throw tooLarge(maxBytes);
      claim(reservation, value.byteLength);
      held.push(value);
    }
  } catch (error) {
    held.clear();
    if (error instanceof Failure) await discardRest(reader, timers);
    throw error;
  }
  return concat([...held.from(0)], held.end);
}

function claim(reservation: Reservation, bytes: number): void {
  const verdict = reservation.grow(bytes);
  const options = { retryAfterMs: 1_000 };
  if (verdict === 'share')
    throw new Failure(
      'rate_limited',
      'Too many bytes of requests of this key, or of its tenant, are under way.',
      options,
    );
  if (verdict === 'full')
    throw new Failure('at_capacity', 'Too many bytes of requests are under way.', options);
}

function tooLarge(maxBytes: number): Failure {
  return new Failure('too_large', `The request body exceeds maximum of ${maxBytes} bytes.`);
}

function concat(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const [first] = chunks;
  if (chunks.length === 1 && first) return first;
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return whole;
}
