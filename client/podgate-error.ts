import type { Started } from './types.ts';

const REDIRECTS = [301, 302, 303, 307, 308];

/** What a PodgateError is made of; what is absent is null, false or empty there. */
export type PodgateErrorDetails = {
  code: string;
  status?: number | null;
  retryable?: boolean;
  requestId?: string | null;
  retryAfterMs?: number | null;
  started?: Started | null;
  errors?: readonly { path: string; message: string }[];
  cause?: unknown;
};

/**
 * Everything that Podgate refused or failed at. A program that fails is no error, but a result. `code` is one of the
 * API's codes, or of the client's own: `connection_lost` (no answer, or not to its end), `malformed_answer` and
 * `redirected` (the base URL is another's, who sends on to somewhere else).
 * An aborted signal is not wrapped: calls reject with its reason.
 */
export class PodgateError extends Error {
  readonly code: string;
  /** Null where there was no HTTP answer. */
  readonly status: number | null;
  /** Nothing ran, and the same request may succeed later. */
  readonly retryable: boolean;
  /** Names the request in the gateway's log. */
  readonly requestId: string | null;
  /** How long the gateway asks to be left alone. */
  readonly retryAfterMs: number | null;
  /** Whether the code began to run; null where that is no question. */
  readonly started: Started | null;
  /** What is wrong with the request, by place. */
  readonly errors: readonly { path: string; message: string }[];

  constructor(message: string, details: PodgateErrorDetails) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.name = 'PodgateError';
    this.code = details.code;
    this.status = details.status ?? null;
    this.started = details.started ?? null;
    this.retryable = details.retryable === true && (this.started === null || this.started === 'no');
    this.requestId = details.requestId ?? null;
    this.retryAfterMs = details.retryAfterMs ?? null;
    this.errors = details.errors ?? [];
  }
}

/** What a caller gave that cannot be sent: nothing was. Neither it nor a cause that quotes it is shown: it may be a key. */
export function invalidOption(path: string, why: string): PodgateError {
  const message = `${path} ${why}`;
  return new PodgateError(message, { code: 'invalid_request', started: 'no', errors: [{ path, message }] });
}

/** What a redirect rejects with: key and code go nowhere but to the base URL. Null for any other answer. */
export function redirectOf({ status, type, headers, url }: Response): PodgateError | null {
  // A browser says no more than that.
  const hidden = type === 'opaqueredirect';
  if (!hidden && !REDIRECTS.includes(status)) return null;
  const location = headers.get('location') ?? '';
  const to = URL.canParse(location, url || undefined) ? new URL(location, url || undefined).origin : null;
  const where = to === null || to === 'null' ? 'somewhere else' : to;
  return new PodgateError(
    `The server sends on to ${where}, and nothing was sent there. Give the URL of the gateway itself as base URL`,
    { code: 'redirected', status: hidden ? null : status },
  );
}

/** The error that a failed answer's body describes, whether Podgate or something before it wrote it. */
export function parseProblem(
  text: string,
  answer: { status: number; retryAfterMs: number | null },
): PodgateError {
  const problem = parseObject(text);
  const code = textOf(problem.code);
  const detail = textOf(problem.detail) ?? textOf(problem.title) ?? `The server answered ${answer.status}`;
  return new PodgateError(detail, {
    ...answer,
    code: code ?? `http_${answer.status}`,
    // Only Podgate knows that nothing ran.
    retryable: code !== null && problem.retryable === true,
    requestId: textOf(problem.request_id),
    started: startedOf(problem.started),
    errors: Array.isArray(problem.errors) ? problem.errors.filter(isSchemaError) : [],
  });
}

/** Unknown unless it is one of the words. Null where nothing was said. */
export function startedOf(value: unknown): Started | null {
  if (value === undefined || value === null) return null;
  return value === 'yes' || value === 'no' ? value : 'unknown';
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

function isSchemaError(value: unknown): value is { path: string; message: string } {
  const { path, message } = (value ?? {}) as Record<string, unknown>;
  return typeof path === 'string' && typeof message === 'string';
}
