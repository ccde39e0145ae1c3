import { malformed, parseData } from './answers.ts';
import { PodgateError, startedOf } from './podgate-error.ts';
import { readServerSentEvents, type ServerSentEvent } from './server-sent-events.ts';
import { connectionLost, pause, type Transport } from './transport.ts';
import type { ExecutionEnd, NumberedEvent } from './types.ts';

/** Attempts to go on, one after the other, that brought nothing. */
const MAX_RESUMES = 6;
const RESUME_MS = 250;

export type Followed = {
  /** An answer that streams already. */
  response?: Response;
  /** The execution's, where its events can be asked for again. */
  id: string | null;
  lastEventId?: string | undefined;
};

/** Events up to the result. Where the connection breaks they go on behind the last that came, if they can be asked for. */
export async function* resumeEvents(
  transport: Transport,
  { response, id, lastEventId }: Followed,
  signal: AbortSignal | undefined,
): AsyncGenerator<NumberedEvent, void, undefined> {
  let last = lastEventId;
  let answer = response;
  let started: 'yes' | 'unknown' = 'unknown';
  for (let resumes = 0; ; resumes += 1) {
    try {
      answer ??= await transport.send({
        method: 'GET',
        path: `/v1/executions/${encodeURIComponent(id ?? '')}/events`,
        headers: { 'last-event-id': last },
        signal,
      });
      for await (const sent of readEvents(answer)) {
        const event = parseEvent(sent);
        if (!event) continue;
        if (event.type === 'output') started = 'yes';
        resumes = 0;
        last = event.id ?? last;
        yield event;
        if (event.type === 'result') return;
      }
      throw connectionLost(undefined, signal, started);
    } catch (cause) {
      const error = connectionLost(cause, signal, started);
      const isLost = error instanceof PodgateError && error.code === 'connection_lost';
      if (id === null || !isLost || resumes >= MAX_RESUMES) throw error;
      answer = undefined;
      await pause(RESUME_MS * 2 ** resumes, signal);
    }
  }
}

async function* readEvents({ body }: Response): AsyncGenerator<ServerSentEvent, void, undefined> {
  if (body !== null) yield* readServerSentEvents(body);
}

/** Undefined for an event that this version does not know. */
function parseEvent({ event, data, id }: ServerSentEvent): NumberedEvent | undefined {
  switch (event) {
    case 'output': {
      const { stream, data: text } = parseData<{ stream: unknown; data: unknown }>(data, 'yes');
      if (!isStream(stream) || typeof text !== 'string') throw malformed('yes');
      return { type: 'output', stream, data: text, id };
    }
    case 'gap': {
      const { stream, from, to } = parseData<Record<string, unknown>>(data, 'yes');
      if (!isStream(stream) || typeof from !== 'number' || typeof to !== 'number') throw malformed('yes');
      return { type: 'gap', stream, from, to, id };
    }
    case 'result':
      return { type: 'result', ...parseData<ExecutionEnd>(data, 'unknown'), id };
    case 'error': {
      const { message, code, started } = parseData<Record<string, unknown>>(data, 'unknown');
      if (typeof message !== 'string' || typeof code !== 'string') throw malformed('unknown');
      throw new PodgateError(message, { code, started: startedOf(started) ?? 'unknown' });
    }
    default:
      return undefined;
  }
}

function isStream(name: unknown): name is 'stdout' | 'stderr' {
  return name === 'stdout' || name === 'stderr';
}
