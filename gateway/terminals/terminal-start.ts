import { Failure } from '../../shared/errors.ts';
import { MAX_SESSION_TTL_SECONDS, MAX_TERMINAL_OUTPUT_BYTES } from '../../shared/limits.ts';
import type { StartBody } from '../../shared/messages.ts';
import type { Caller } from '../auth/caller.ts';
import { failureCode, refusalCode } from '../execution/agent-codes.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import type { GatewayLink } from '../link/gateway-link.ts';
import type { SessionPlace } from '../sessions/session-book.ts';
import type { TerminalAsk } from './terminal-request.ts';

/** Work in a session waits for nobody but a stream that is being replaced. */
const ACCEPT_WITHIN_MS = 5_000;
/** For that, and for a runner's start (START_SECONDS in agent/runner/podgate_runner/limits.py). */
export const OPEN_TERMINAL_MS = 20_000;

export type TerminalStart = {
  caller: Caller;
  place: SessionPlace;
  ask: TerminalAsk;
  executionId: string;
  requestId: string;
};

/**
 * Opens a terminal and leaves it to whoever attaches to it. False where there may be one of that name by now: it was
 * opened by somebody else, or the link went before the agent said so. Rejects with what the agent refuses it with, or
 * with `deadline_exceeded` where it says neither.
 */
export function startTerminal(
  { streams }: Pick<GatewayLink, 'streams'>,
  start: TerminalStart,
  timers: GatewayDeps['timers'],
): Promise<boolean> {
  const manifest = new TextEncoder().encode(
    JSON.stringify({ args: [], env: { TERM: start.ask.term }, files: [] }),
  );
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const late = timers.setTimeout(() => {
    streams.cancel(stream, 'deadline_exceeded');
    streams.release(stream);
    reject(new Failure('deadline_exceeded', 'The agent did not open the terminal in time; try again.'));
  }, OPEN_TERMINAL_MS);
  const stream = streams.start(startBody(start, manifest.byteLength), {
    control: (message) => {
      switch (message.name) {
        case 'ACCEPT':
          return null;
        case 'STARTED':
          streams.detach(stream);
          resolve(true);
          return null;
        case 'NACK': {
          const { code, detail, retry_after_ms } = message.body;
          const failure = new Failure(refusalCode(code), detail, { retryAfterMs: retry_after_ms ?? 1_000 });
          if (failure.code === 'duplicate') resolve(false);
          else reject(failure);
          return null;
        }
        case 'EXIT': {
          const { failure } = message.body;
          reject(
            failure
              ? new Failure(failureCode(failure.code), failure.detail)
              : new Failure('runner_error', 'The terminal ended before it began.'),
          );
          return null;
        }
        default:
          return 'protocol_error';
      }
    },
    data: () => 'protocol_error',
    room() {},
    lost: () => resolve(false),
  });
  streams.input(stream, manifest);
  streams.inputEnd(stream);
  return promise.finally(() => timers.clearTimeout(late));
}

function startBody(
  { caller, place, ask, executionId, requestId }: TerminalStart,
  manifest: number,
): StartBody {
  return {
    execution_id: executionId,
    tenant: caller.tenant,
    principal: caller.principal,
    holder: caller.holder,
    request_id: requestId,
    traceparent: null,
    cluster: place.cluster,
    template: place.template,
    language: 'bash',
    last_line_interactive: false,
    sizes: { manifest, code: 0, stdin: null, files: 0 },
    limits: {
      timeout_ms: MAX_SESSION_TTL_SECONDS * 1_000,
      max_output_bytes: MAX_TERMINAL_OUTPUT_BYTES,
      memory_mb: caller.limits.memory_mb,
      cpu_seconds: null,
      output_limit_bytes: null,
    },
    concurrency: caller.limits.concurrency,
    accept_within_ms: ACCEPT_WITHIN_MS,
    queue_ms: 0,
    // It waits for whoever comes back, and holds nothing back meanwhile.
    detach: true,
    session: { do: 'terminal', id: place.id, name: ask.name, rows: ask.rows, columns: ask.columns },
  };
}
