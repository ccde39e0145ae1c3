import { malformed, parseData } from './answers.ts';
import { PodgateError, startedOf } from './podgate-error.ts';
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
    for await (const { event, data } of readServerSentEvents(response.body)) {
      if (event === 'output') {
        started = 'yes';
        yield parseOutput(data);
      } else if (event === 'result') {
        yield { type: 'result', ...parseData<Result>(data, 'unknown') };
        return;
      } else if (event === 'error') throw parseFailure(data);
    }
  } catch (cause) {
    throw connectionLost(cause, signal, started);
  }
  throw connectionLost(undefined, signal, started);
}

function parseOutput(data: string): OutputEvent {
  const { stream, data: text } = parseData<{ stream: unknown; data: unknown }>(data, 'yes');
  if ((stream !== 'stdout' && stream !== 'stderr') || typeof text !== 'string') throw malformed('yes');
  return { type: 'output', stream, data: text };
}

function parseFailure(data: string): PodgateError {
  const { message, code, started } = parseData<Record<string, unknown>>(data, 'unknown');
  if (typeof message !== 'string' || typeof code !== 'string') throw malformed('unknown');
  return new PodgateError(message, { code, started: startedOf(started) ?? 'unknown' });
}
