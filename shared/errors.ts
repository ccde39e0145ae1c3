/**
 * Every way Podgate refuses or fails, and what follows from it. `status` is the HTTP answer; `retryable` says that
 * nothing ran and the same request may succeed later, and no such answer is given once something may have run; `close`
 * is the WebSocket close code: 4000 + status, but for `protocol_error`, which is the peer's fault there.
 */
const TABLE = {
  invalid_request: { status: 422, retryable: false, title: 'The request is not valid' },
  too_large: { status: 413, retryable: false, title: 'The request is too large', close: 4413 },
  malformed_request: { status: 400, retryable: false, title: 'This is not HTTP' },
  headers_too_large: { status: 431, retryable: false, title: 'The headers are too large' },
  request_timeout: { status: 408, retryable: false, title: 'The request did not arrive in time' },
  unauthorized: { status: 401, retryable: false, title: 'The key was not accepted', close: 4401 },
  forbidden: { status: 403, retryable: false, title: 'The key does not allow this', close: 4403 },
  policy_denied: { status: 403, retryable: false, title: 'The cluster refuses this' },
  not_found: { status: 404, retryable: false, title: 'Not found' },
  no_cluster: { status: 404, retryable: false, title: 'No such cluster' },
  no_template: { status: 404, retryable: false, title: 'No such template' },
  no_session: { status: 404, retryable: false, title: 'No such session' },
  no_terminal: { status: 501, retryable: false, title: 'The sandbox has no terminals' },
  no_language: { status: 422, retryable: false, title: 'No such language' },
  range_not_satisfiable: { status: 416, retryable: false, title: 'Nothing lies in the range' },
  method_not_allowed: { status: 405, retryable: false, title: 'The method is not allowed here' },
  conflict: { status: 409, retryable: false, title: 'This conflicts with another request' },
  duplicate: { status: 409, retryable: false, title: 'This execution is known already' },
  busy: { status: 409, retryable: true, title: 'Something runs here already' },
  rate_limited: { status: 429, retryable: true, title: 'Too many requests' },
  internal: { status: 500, retryable: false, title: 'Podgate failed' },
  not_implemented: { status: 501, retryable: false, title: 'Not available yet' },
  maybe_started: { status: 502, retryable: false, title: 'The code may have started' },
  agent_lost: { status: 502, retryable: false, title: 'The agent was lost' },
  sandbox_lost: { status: 502, retryable: false, title: 'The sandbox was lost' },
  runner_error: { status: 502, retryable: false, title: 'The runner failed' },
  reader_stalled: { status: 502, retryable: false, title: 'The reader took nothing for too long' },
  deadline_exceeded: { status: 502, retryable: false, title: 'No answer in time' },
  stage_failed: { status: 422, retryable: false, title: 'The input could not be staged' },
  no_agent: { status: 503, retryable: true, title: 'No agent is connected' },
  at_capacity: { status: 503, retryable: true, title: 'All sandboxes are taken' },
  image_error: { status: 503, retryable: true, title: 'The sandbox image cannot be used' },
  quota_exceeded: { status: 503, retryable: true, title: "The cluster's quota is used up" },
  unschedulable: { status: 503, retryable: true, title: 'The cluster has no room' },
  backend_unavailable: { status: 503, retryable: true, title: 'The cluster cannot make sandboxes' },
  isolation_failed: {
    status: 503,
    retryable: true,
    title: 'The isolation that the template promises does not hold',
  },
  draining: { status: 503, retryable: true, title: 'Shutting down', close: 4503 },
  cancelled: { status: 409, retryable: false, title: 'Cancelled before it started' },
  protocol_error: { status: 502, retryable: false, title: 'A peer broke the protocol', close: 4400 },
  handshake_timeout: { status: 408, retryable: true, title: 'No handshake in time', close: 4408 },
  replaced: { status: 409, retryable: false, title: 'Somebody newer took this place', close: 4409 },
  upgrade_required: { status: 426, retryable: false, title: 'This is a WebSocket' },
  version_mismatch: { status: 426, retryable: false, title: 'No protocol version in common', close: 4426 },
} as const satisfies Record<string, { status: number; retryable: boolean; title: string; close?: number }>;

export type ErrorCode = keyof typeof TABLE;
export type Started = 'yes' | 'no' | 'unknown';

export type FailureOptions = {
  /** Logged, never sent. */
  cause?: unknown;
  retryAfterMs?: number;
  started?: Started;
  /** Schema errors, for `invalid_request`. */
  errors?: readonly { path: string; message: string }[];
};

/** The one error class. `detail` is one sentence for the user: what is wrong and what to do; never a cluster's raw words. */
export class Failure extends Error {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly retryAfterMs: number | undefined;
  readonly started: Started;
  readonly errors: FailureOptions['errors'];

  constructor(code: ErrorCode, detail: string, options: FailureOptions = {}) {
    super(`${code}: ${detail}`, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'Failure';
    this.code = code;
    this.detail = detail;
    this.retryAfterMs = options.retryAfterMs;
    this.started = options.started ?? 'no';
    this.errors = options.errors;
  }

  /** Once user code may have started, 502 in place of what clients send again by themselves. */
  get status(): number {
    const { status, retryable } = TABLE[this.code];
    return retryable && this.started !== 'no' ? 502 : status;
  }

  get title(): string {
    return TABLE[this.code].title;
  }

  /** False once user code may have started, whatever the code says. */
  get retryable(): boolean {
    return this.started === 'no' && TABLE[this.code].retryable;
  }
}

/**
 * A cluster's trouble as callers are told it. Why it cannot be reached or used names what is inside it: that is for the log
 * and for keys with scope `clusters`.
 */
export function troubleForCallers(
  { code, detail }: { code: ErrorCode; detail: string },
  options?: FailureOptions,
): Failure {
  const sentence = code === 'backend_unavailable' ? 'The cluster cannot be reached or used now.' : detail;
  return new Failure(code, sentence || `${TABLE[code].title}.`, options);
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(TABLE, value);
}

/** WebSocket close code of a failure that ends a link; 4400 for one that has none of its own. */
export function closeCode(code: ErrorCode): number {
  const row = TABLE[code];
  return 'close' in row ? row.close : 4400;
}

/** RFC 9457 body. */
export type Problem = {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
  retryable: boolean;
  started?: Started;
  request_id: string;
  errors?: readonly { path: string; message: string }[];
};

export function toProblem(failure: Failure, requestId: string): Problem {
  const { errors = failure.status === 422 ? [{ path: '', message: failure.detail }] : undefined } = failure;
  return {
    type: `urn:podgate:error:${failure.code}`,
    title: failure.title,
    status: failure.status,
    detail: failure.detail,
    code: failure.code,
    retryable: failure.retryable,
    ...(failure.status === 502 ? { started: failure.started } : {}),
    request_id: requestId,
    ...(errors ? { errors } : {}),
  };
}
