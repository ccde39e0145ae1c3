import { malformed, parseData } from './answers.ts';
import { PodgateError, startedOf } from './podgate-error.ts';
import type { ServerSentEvent } from './server-sent-events.ts';
import type { GapEvent, OutputEvent } from './types.ts';

/**
 * What one event of an execution says. Undefined for an event that this version does not know. Throws PodgateError: what
 * an `error` event says, or `malformed_answer`.
 */
export function parseEvent<Result extends object>({
  event,
  data,
}: ServerSentEvent): OutputEvent | GapEvent | ({ type: 'result' } & Result) | undefined {
  switch (event) {
    case 'output': {
      const { stream, data: text } = parseData<{ stream: unknown; data: unknown }>(data, 'yes');
      if (!isStream(stream) || typeof text !== 'string') throw malformed('yes');
      return { type: 'output', stream, data: text };
    }
    case 'gap': {
      const { stream, from, to } = parseData<Record<string, unknown>>(data, 'yes');
      if (!isStream(stream) || typeof from !== 'number' || typeof to !== 'number') throw malformed('yes');
      return { type: 'gap', stream, from, to };
    }
    case 'result':
      return { type: 'result', ...parseData<Result>(data, 'unknown') };
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
