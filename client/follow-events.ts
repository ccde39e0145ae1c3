import { parseEvent } from './parse-event.ts';
import { readServerSentEvents } from './server-sent-events.ts';
import { connectionLost } from './transport.ts';
import type { OutputEvent } from './types.ts';

/** Output as it happens, then exactly one `result`. What goes wrong is thrown. */
export async function* followEvents<Result extends object>(
  response: Response,
  signal: AbortSignal | undefined,
): AsyncGenerator<OutputEvent | ({ type: 'result' } & Result), void, undefined> {
  if (response.body === null) throw connectionLost(undefined, signal, 'unknown');
  let started: 'yes' | 'unknown' = 'unknown';
  try {
    for await (const sent of readServerSentEvents(response.body)) {
      const event = parseEvent<Result>(sent);
      // A gap is only told to whoever reads again.
      if (!event || event.type === 'gap') continue;
      if (event.type === 'output') started = 'yes';
      yield event;
      if (event.type === 'result') return;
    }
  } catch (cause) {
    throw connectionLost(cause, signal, started);
  }
  throw connectionLost(undefined, signal, started);
}
