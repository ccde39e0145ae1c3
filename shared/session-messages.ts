import * as z from 'zod';
import { MAX_SESSION_TTL_SECONDS, MAX_TERMINAL_SIDE, MAX_TERMINALS } from './limits.ts';

const count = z.int().min(0);
const sessionId = z.string().min(1).max(1_024);

/** Name of an interpreter that a session keeps. */
export const contextName = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'use 1 to 64 of A-Z, a-z, 0-9, _ and -');

/** Name of a terminal of a session. */
export const terminalName = contextName;

const side = z.int().min(1).max(MAX_TERMINAL_SIDE);
export const terminalSize = z.object({ rows: side, columns: side });
export type TerminalSize = z.infer<typeof terminalSize>;

const path = z.string().max(4_096);

/** One request about files of a session: `read` from `first` to `last`, both counted; `first` null: the last `last` bytes. */
export const fileWork = z.object({
  op: z.enum(['stat', 'list', 'read', 'mkdir', 'move', 'delete', 'pack', 'unpack']),
  path,
  /** Of `move`. */
  to: path.optional(),
  /** Of `list`: names behind this one, at most so many. */
  after: path.optional(),
  limit: count.optional(),
  first: count.nullable().optional(),
  last: count.nullable().optional(),
  recursive: z.boolean().optional(),
});
export type FileWork = z.infer<typeof fileWork>;

/** START's `session`: what is to be done with a sandbox that is kept (shared/protocol.md 13). */
export const sessionWork = z.discriminatedUnion('do', [
  z.object({
    do: z.literal('open'),
    id: sessionId,
    ttl_ms: z.int().min(1),
    /** It also ends when nothing ran for so long; null: never for that. */
    idle_ms: z.int().min(1).nullable(),
    /** Ceiling of the holder's sessions; null: none. */
    ceiling: count.nullable(),
  }),
  z.object({ do: z.literal('bash'), id: sessionId, input: z.boolean().optional() }),
  z.object({
    do: z.literal('python'),
    id: sessionId,
    context: contextName,
    rich: z.boolean(),
    input: z.boolean().optional(),
  }),
  z.object({ do: z.literal('restart'), id: sessionId, context: contextName }),
  z.object({ do: z.literal('files'), id: sessionId, files: fileWork }),
  z.object({ do: z.literal('terminal'), id: sessionId, name: terminalName, ...terminalSize.shape }),
]);
export type SessionWork = z.infer<typeof sessionWork>;

/** The same on its way to the runner (agent/runner/protocol.md 6). */
export const runnerSessionWork = z.discriminatedUnion('do', [
  z.object({ do: z.literal('open'), ttl_seconds: z.int().min(1) }),
  z.object({ do: z.literal('extend'), ttl_seconds: z.int().min(1) }),
  z.object({ do: z.literal('bash'), input: z.boolean().optional() }),
  z.object({
    do: z.literal('python'),
    context: contextName,
    rich: z.boolean(),
    input: z.boolean().optional(),
  }),
  z.object({ do: z.literal('restart'), context: contextName }),
  z.object({ do: z.literal('files'), files: fileWork }),
  z.object({ do: z.literal('terminal'), ...terminalSize.shape }),
]);
export type RunnerSessionWork = z.infer<typeof runnerSessionWork>;

/** Sessions in one answer: with ids of full length they fit one control frame. */
export const MAX_SESSIONS_LISTED = 32;

/** SESSION from a gateway: a question about one principal's sessions, answered by SESSION with the same `ref`. */
export const sessionAsk = z.object({
  ref: count,
  principal: z.string().min(1).max(1_024),
  action: z.enum(['get', 'list', 'extend', 'end']),
  /** Which one; null for `list`. */
  session_id: sessionId.nullable(),
  /** From now on, for `extend`. */
  ttl_ms: z.int().min(1).nullable(),
  /** `list` leaves out so many. */
  skip: count,
});
export type SessionAsk = z.infer<typeof sessionAsk>;

/** No session lives longer: its times are within, whoever tells them. */
const lifeMs = z
  .int()
  .min(0)
  .max(MAX_SESSION_TTL_SECONDS * 1_000);

export const sessionState = z.object({
  session_id: sessionId,
  cluster: z.string().max(63),
  template: z.string().max(63),
  created_ms_ago: lifeMs,
  expires_in_ms: lifeMs,
  idle_ms: lifeMs.nullable(),
  /** Pieces of its work that are under way. */
  running: count,
  /** Its terminals. Not in a list. */
  terminals: z
    .array(z.object({ name: terminalName, execution_id: z.string().min(1).max(1_024) }))
    .max(MAX_TERMINALS)
    .optional(),
});
export type SessionState = z.infer<typeof sessionState>;

/** `sessions` is empty where there is none such. */
export const sessionAnswer = z.object({
  ref: count,
  sessions: z.array(sessionState).max(MAX_SESSIONS_LISTED),
  /** How many there are in all. */
  total: count,
});
export type SessionAnswer = z.infer<typeof sessionAnswer>;
