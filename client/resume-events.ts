import { parseEvent } from './parse-event.ts';
import { PodgateError } from './podgate-error.ts';
import { readServerSentEvents, type ServerSentEvent } from './server-sent-events.ts';
import { connectionLost, pathPart, pause, type Transport } from './transport.ts';
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

/**
 * Events up to the result. Where the connection breaks, or a gateway shuts down, they go on behind the last that came, if
 * they can be asked for.
 */
export async function* resumeEvents(
  transport: Transport,
  { response, id, lastEventId }: Followed,
  signal: AbortSignal | undefined,
): AsyncGenerator<NumberedEvent, void, undefined> {
  let last = lastEventId;
  let answer = response;
  let started: 'yes' | 'unknown' = 'unknown';
  let lost: unknown;
  let isNumbered = true;
  for (let resumes = 0; ; resumes += 1) {
    try {
      answer ??= await transport.send({
        method: 'GET',
        path: `/v1/executions/${pathPart(id ?? '')}/events`,
        headers: { 'last-event-id': last },
        signal,
      });
      for await (const sent of readEvents(answer)) {
        const said = parseEvent<ExecutionEnd>(sent);
        if (!said) continue;
        const event = { ...said, id: sent.id };
        if (event.type === 'output') started = 'yes';
        // Only what is numbered can be gone on behind, and only another number is news.
        if (event.id !== last) resumes = 0;
        if (event.id === null) isNumbered = false;
        last = event.id ?? last;
        yield event;
        if (event.type === 'result') return;
      }
      throw connectionLost(undefined, signal, started);
    } catch (cause) {
      const error = connectionLost(cause, signal, started);
      // Only that nobody tells of it now: it would pass for an execution that never began.
      const isUntold = lost !== undefined && tellsNothing(error);
      if (id === null || !isNumbered || !isLost(error) || resumes >= MAX_RESUMES)
        throw isUntold ? lost : error;
      if (!isUntold) lost = error;
      answer = undefined;
      await pause(RESUME_MS * 2 ** resumes, signal);
    }
  }
}

/** Whether an attempt to go on says nothing of the execution: refused for now, or not even heard. */
function tellsNothing(error: unknown): boolean {
  if (!(error instanceof PodgateError)) return false;
  return error.retryable || (error.code === 'connection_lost' && error.started === null);
}

/** Whether another attempt may tell the rest. A gateway that goes says it of the execution, or refuses to be asked. */
function isLost(error: unknown): boolean {
  if (!(error instanceof PodgateError)) return false;
  if (error.code === 'draining') return error.status !== null || error.started !== 'no';
  return error.code === 'connection_lost';
}

async function* readEvents({ body }: Response): AsyncGenerator<ServerSentEvent, void, undefined> {
  if (body !== null) yield* readServerSentEvents(body);
}
