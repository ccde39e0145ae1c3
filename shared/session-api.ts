import * as z from 'zod';
import { ended, env, type RequestCeilings, requestFile, text, timeoutMs, unixSeconds } from './api.ts';
import { DEFAULT_SESSION_TTL_SECONDS, MAX_REQUEST_FILES, MAX_SESSION_TTL_SECONDS } from './limits.ts';
import { clusterName } from './messages.ts';

const seconds = z.int().min(1).max(MAX_SESSION_TTL_SECONDS);

export const createSessionRequest = z.object({
  files: z.array(requestFile).max(MAX_REQUEST_FILES).default([]),
  ttl_seconds: seconds.default(DEFAULT_SESSION_TTL_SECONDS),
  /** It also ends when nothing ran for so long. */
  idle_seconds: seconds.nullable().default(null),
  template: z.string().min(1).max(63).nullable().default(null),
  cluster: clusterName.nullable().default(null),
  queue_timeout_ms: z.int().min(0).max(600_000).default(5000),
});
export type CreateSessionRequest = z.output<typeof createSessionRequest>;

export const extendSessionRequest = z.object({
  ttl_seconds: seconds.default(DEFAULT_SESSION_TTL_SECONDS),
});

export function bashRequestSchema({ maxTimeoutMs }: RequestCeilings) {
  return z.object({
    cmd: text,
    timeout_ms: timeoutMs(maxTimeoutMs).default(Math.min(30_000, maxTimeoutMs)),
    env: env.default({}),
    stdin: text.nullable().default(null),
  });
}
export type BashRequest = z.output<ReturnType<typeof bashRequestSchema>>;

export const sessionResponse = z.object({
  session_id: z.string(),
  expires_at: unixSeconds,
  created_at: unixSeconds,
  idle_seconds: z.number().nullable(),
  cluster: z.string(),
  template: z.string(),
  running: z.int().describe('pieces of its work that are under way'),
});
export type SessionResponse = z.infer<typeof sessionResponse>;

export const sessionList = z.object({
  sessions: z.array(sessionResponse),
  next_cursor: z.string().nullable(),
});

const { files: _files, files_omitted: _omitted, files_omitted_count: _count, ...endedInPlace } = ended;

/** How a command ended. What it left in the workspace stays there. */
export const bashResponse = z.object({ stdout: z.string(), stderr: z.string(), ...endedInPlace });
export type BashResponse = z.infer<typeof bashResponse>;
