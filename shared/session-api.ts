import * as z from 'zod';
import { ended, type RequestCeilings, resultEvent, unixSeconds } from './api.ts';
import { clusterName } from './cluster-name.ts';
import {
  DEFAULT_SESSION_TTL_SECONDS,
  MAX_PATH_BYTES,
  MAX_QUEUE_TIMEOUT_MS,
  MAX_REQUEST_FILES,
  MAX_SESSION_TTL_SECONDS,
} from './limits.ts';
import { env, noNul, relativePath, requestFile, text, timeoutMs } from './request-fields.ts';
import { pythonResults } from './result-api.ts';
import { contextName } from './session-messages.ts';
import { signalName } from './signals.ts';

const seconds = z.int().min(1).max(MAX_SESSION_TTL_SECONDS);

export const createSessionRequest = z.object({
  files: z.array(requestFile).max(MAX_REQUEST_FILES).default([]),
  ttl_seconds: seconds.default(DEFAULT_SESSION_TTL_SECONDS),
  /** It also ends when nothing ran for so long. */
  idle_seconds: seconds.nullable().default(null),
  template: z.string().min(1).max(63).nullable().default(null),
  cluster: clusterName.nullable().default(null),
  queue_timeout_ms: z.int().min(0).max(MAX_QUEUE_TIMEOUT_MS).default(5000),
});
export type CreateSessionRequest = z.output<typeof createSessionRequest>;

export const extendSessionRequest = z.object({
  ttl_seconds: seconds.default(DEFAULT_SESSION_TTL_SECONDS),
});

export function bashRequestSchema({ maxTimeoutMs }: RequestCeilings) {
  return z.object({
    cmd: noNul,
    timeout_ms: timeoutMs(maxTimeoutMs).default(Math.min(30_000, maxTimeoutMs)),
    env: env.default({}),
    stdin: text.nullable().default(null),
  });
}
const liveInput = z
  .boolean()
  .default(false)
  .describe('standard input stays open behind `stdin`: /v1/executions/{id}/stdin goes on with it');

/** The same as a stream, which tells the id by which it can be fed and signalled. */
export function bashStreamRequestSchema(ceilings: RequestCeilings) {
  return bashRequestSchema(ceilings).extend({ input: liveInput });
}
export type BashRequest = z.output<ReturnType<typeof bashRequestSchema>> & { input?: boolean };

export const stdinResponse = z.object({
  bytes: z.int(),
  open: z.boolean().describe('more may follow'),
});
export const signalRequest = z.object({ signal: signalName });

export const sessionResponse = z.object({
  session_id: z.string(),
  expires_at: unixSeconds,
  created_at: unixSeconds,
  idle_seconds: z.number().nullable(),
  cluster: z.string(),
  template: z.string(),
  running: z.int().describe('pieces of its work that are under way'),
  terminals: z.array(z.string()).optional().describe('names of its terminals; not in a list'),
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

export function pythonRequestSchema({ maxTimeoutMs }: RequestCeilings) {
  return z.object({
    code: text,
    /** One interpreter each; a name that is new begins one. */
    context: contextName.default('main'),
    stdin: text.nullable().default(null),
    timeout_ms: timeoutMs(maxTimeoutMs).default(Math.min(30_000, maxTimeoutMs)),
    last_line_interactive: z.boolean().default(true),
    /** Representations and figures in place of a printed last value. */
    rich: z.boolean().default(false),
    files: z.array(requestFile).max(MAX_REQUEST_FILES).default([]),
  });
}
/** The same as a stream, which tells the id by which it can be fed and interrupted. */
export function pythonStreamRequestSchema(ceilings: RequestCeilings) {
  return pythonRequestSchema(ceilings).extend({ input: liveInput });
}
export type PythonRequest = z.output<ReturnType<typeof pythonRequestSchema>> & { input?: boolean };

const contextState = z
  .enum(['kept', 'lost'])
  .describe(
    'lost: what it remembered is gone, since its process ended in this execution, and the next one finds a new one; or before it, and this one found a new one',
  );

/** How a piece of Python ended, without its output. */
export const pythonResultEvent = z
  .object({
    ...endedInPlace,
    ...pythonResults,
    context: z.string(),
    context_state: contextState,
  })
  .meta({ title: 'PythonResultEvent' });
export const pythonResponse = z.object({
  stdout: z.string(),
  stderr: z.string(),
  ...pythonResultEvent.shape,
});
export type PythonResponse = z.infer<typeof pythonResponse>;
/** How any execution ended, for whoever reads its events. `context` and `context_state` only of Python of a session. */
export const readResultEvent = resultEvent
  .extend({ context: z.string().optional(), context_state: contextState.optional() })
  .meta({ title: 'ReadResultEvent' });
export const bashResultEvent = z.object(endedInPlace).meta({ title: 'BashResultEvent' });

/** A path in the workspace, normalised; empty is the workspace itself. */
const workspacePath = relativePath('Paths', MAX_PATH_BYTES);
export const filePathQuery = z.object({
  path: workspacePath.refine((path) => path !== '', 'path must name a file'),
});
export const treePathQuery = z.object({ path: workspacePath.default('') });
export const deleteQuery = filePathQuery.extend({ recursive: z.enum(['true', 'false']).default('false') });
export const mkdirRequest = filePathQuery;
export const moveRequest = z.object({ from: filePathQuery.shape.path, to: filePathQuery.shape.path });

export const workspaceEntry = z.object({
  name: z.string(),
  type: z.enum(['file', 'directory', 'link', 'other']),
  size: z.int(),
  mode: z.int(),
  modified_at: unixSeconds,
  /** Of a link. */
  target: z.string().optional(),
});
export type WorkspaceEntry = z.infer<typeof workspaceEntry>;
export const workspaceList = z.object({
  entries: z.array(workspaceEntry),
  next_cursor: z.string().nullable(),
});
export const treeUnpacked = z.object({ entries: z.int() });
