import { PodgateError } from './podgate-error.ts';
import { connectionLost } from './transport.ts';
import type { Started } from './types.ts';

/** The JSON of an answer. `started`: what is known of code where the answer is lost. */
export async function readJson<Answer>(
  response: Response,
  signal: AbortSignal | undefined,
  started: Started | null = null,
): Promise<Answer> {
  const text = await response.text().catch((cause) => {
    throw connectionLost(cause, signal, started);
  });
  return parseData<Answer>(text, started);
}

/** The bytes of an answer, read as fast as they are taken. Reading them fails with PodgateError, or the signal's reason. */
export function bytesOf(
  { body }: Response,
  signal: AbortSignal | undefined,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const reader = (body ?? new Blob([]).stream()).getReader();
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        const { done, value } = await reader.read().catch((cause) => {
          throw connectionLost(cause, signal, null);
        });
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

/** The gateway's answers are trusted to have the shape that its schemas give them; not to be JSON at all. */
export function parseData<Answer>(text: string, started: Started | null): Answer {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Answer;
  } catch {
    // Falls through: text that is no JSON and JSON that is no object are the same fault.
  }
  throw malformed(started);
}

export function malformed(started: Started | null): PodgateError {
  const message = 'What answered is not Podgate, or something changed its answer on the way';
  return new PodgateError(message, { code: 'malformed_answer', started });
}

/** Lets an answer go that has nothing to say, also where it broke off: what it stands for was done. */
export async function discard(response: Response): Promise<void> {
  await response.body?.cancel().catch(() => {});
}
