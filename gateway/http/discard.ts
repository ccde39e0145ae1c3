import type { Timers } from '../gateway-deps.ts';
import { createCutoff } from './cutoff.ts';

/** How much of a refused body is still read, and how long: a client that is cut off while it sends never sees the answer. */
export type DiscardBounds = { maxBytes: number; maxMs: number };
export const DISCARD_BOUNDS: DiscardBounds = { maxBytes: 268_435_456, maxMs: 10_000 };

type Source = Pick<ReadableStreamDefaultReader<Uint8Array>, 'read' | 'cancel'>;

/** Reads and forgets. Never rejects: the refusal that led here is the answer, whatever becomes of the rest. */
export async function discardRest(
  source: Source,
  timers: Timers,
  { maxBytes, maxMs }: DiscardBounds = DISCARD_BOUNDS,
): Promise<void> {
  const late = Promise.withResolvers<{ done: true; value: undefined }>();
  const timer = timers.setTimeout(() => late.resolve({ done: true, value: undefined }), maxMs);
  const cutoff = createCutoff(late.promise);
  try {
    for (let discarded = 0; discarded < maxBytes; ) {
      const { done, value } = await cutoff.race(source.read());
      if (done) break;
      discarded += value.byteLength;
    }
    await source.cancel();
  } catch {
    // The client left: there is nobody to answer.
  } finally {
    timers.clearTimeout(timer);
  }
}

/** The same for a request that was refused before anybody looked at its body. */
export async function discardUnread(request: Request, timers: Timers): Promise<void> {
  if (request.bodyUsed || request.body === null || request.body.locked) return;
  await discardRest(request.body.getReader(), timers);
}

/** A body that does not end with whoever takes it: what a refusal leaves of it is still there to be discarded. */
export function keptBody(source: ReadableStream<Uint8Array>): {
  body: ReadableStream<Uint8Array>;
  discard(timers: Timers): Promise<void>;
} {
  const reader = source.getReader();
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    },
    { highWaterMark: 0 },
  );
  return { body, discard: (timers) => discardRest(reader, timers) };
}
