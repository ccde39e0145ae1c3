import * as z from 'zod';
import { clusterAnnouncement, count, MAX_CLUSTERS, sentence } from './announcement.ts';
import { clusterName } from './cluster-name.ts';
import { MAX_TOKEN_BYTES } from './keys.ts';
import { MAX_FILES_OMITTED, MAX_PATH_BYTES, MAX_PEERS, STREAM_WINDOW_BYTES } from './limits.ts';
import { contextName, sessionAnswer, sessionAsk, sessionWork, terminalSize } from './session-messages.ts';
import { SIGNAL_STATES, signalName } from './signals.ts';
import { LANGUAGES } from './template.ts';

/** Visible ASCII, as JWEs are: an agent keeps many, and no character may cost two bytes. */
const executionId = z.string().regex(/^[\x21-\x7e]{1,1024}$/);
const token = z.string().min(1).max(MAX_TOKEN_BYTES);
const signature = z.string().max(128);
const instanceName = z.string().regex(/^[A-Za-z0-9_-]{8,64}$/);
/** Other instances of the tenant: those that a gateway has, or that an agent was told of. */
const peers = z.array(instanceName).max(MAX_PEERS).optional();

export const OUTCOMES = [
  'exited',
  'signaled',
  'timed_out',
  'cpu_limit',
  'memory_limit',
  'output_limit',
  'cancelled',
] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** How one execution ended. Times in ms, sizes in bytes; `exit_code` is null exactly when it timed out or was cancelled. */
export const executionResult = z.object({
  outcome: z.enum(OUTCOMES),
  exit_code: z.int().min(0).max(255).nullable(),
  signal: z.int().min(1).max(64).nullable(),
  timed_out: z.boolean(),
  duration_ms: count,
  cpu_ms: count,
  peak_memory_bytes: count,
  stdout_bytes: count,
  stderr_bytes: count,
  stdout_truncated: z.boolean(),
  stderr_truncated: z.boolean(),
  files_omitted: z
    .array(z.object({ path: z.string().max(MAX_PATH_BYTES), reason: z.string().max(64) }))
    .max(MAX_FILES_OMITTED),
  files_omitted_count: count,
  /** What became of the interpreter that a session keeps. Absent where there was none. */
  context: z.enum(['kept', 'lost']).optional(),
});
export type ExecutionResult = z.infer<typeof executionResult>;

export const executionFailure = z.object({
  code: z.string().max(64),
  detail: sentence,
  started: z.enum(['yes', 'no', 'unknown']),
});

export const exitBody = z.union([
  z.object({ result: executionResult, failure: z.null() }),
  z.object({ result: z.null(), failure: executionFailure }),
]);
export type ExitBody = z.infer<typeof exitBody>;

/** A digest of a principal and its `Idempotency-Key`; and one of what was asked for with it. */
const claimKey = z.string().regex(/^[\x21-\x7e]{1,64}$/);
const claimDigest = z.string().regex(/^[\x21-\x7e]{1,64}$/);

/** `tenant/sub`: ceilings count here, since one key may name any end user. */
const holderName = z.string().min(1).max(1024);

/** Bytes of the parts of the input, in the order in which they come. Null: no stdin. */
export const startSizes = z.object({ manifest: count, code: count, stdin: count.nullable(), files: count });

export const startBody = z.object({
  execution_id: executionId,
  tenant: z.string().min(1).max(256),
  principal: z.string().min(1).max(1024),
  holder: holderName,
  request_id: z.string().max(128),
  traceparent: z.string().max(128).nullable(),
  cluster: clusterName,
  template: z.string().min(1).max(63),
  language: z.enum(LANGUAGES),
  last_line_interactive: z.boolean(),
  sizes: startSizes,
  limits: z.object({
    timeout_ms: z.int().min(1),
    max_output_bytes: count,
    memory_mb: z.int().min(1).nullable(),
    cpu_seconds: z.int().min(1).nullable(),
    output_limit_bytes: z.int().min(1).nullable(),
  }),
  concurrency: z.int().min(0).nullable(),
  accept_within_ms: count,
  /** How long it waited for its slot: told again to whoever attaches. */
  queue_ms: count,
  /** Nobody has to listen: it goes on to its end when its link is lost. */
  detach: z.boolean(),
  /** The `Idempotency-Key` that stands for it, as CLAIM has it. */
  key: claimKey.optional(),
  /** Work of a session. Absent: an execution like any other. */
  session: sessionWork.optional(),
  /** Its results are wanted: they come before its files. */
  rich: z.boolean().optional(),
});
export type StartBody = z.infer<typeof startBody>;

export const recordBody = z.object({
  accepted_at_ms_ago: count,
  started_at_ms_ago: count.nullable(),
  ended_at_ms_ago: count.nullable(),
  exit: exitBody.nullable(),
});
export const RECORD_STATES = ['unknown', 'fenced', 'accepted', 'started', 'ended'] as const;

const grants = z
  .array(z.object({ cluster: clusterName, template: z.string().min(1).max(63), granted: count }))
  .max(4096);

export const fileEndBody = z.object({
  path: z.string().min(1).max(MAX_PATH_BYTES),
  size: count,
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type FileEnd = z.infer<typeof fileEndBody>;

/** What ATTACH is answered with: what the gateway that sent START knew. */
const attachedBody = z.object({
  max_output_bytes: count,
  queue_ms: count,
  /** START asked for results. */
  rich: z.boolean().optional(),
  /** It is Python of a session, in this context: a document of results comes in place of files. */
  context: contextName.optional(),
});
export type AttachedBody = z.infer<typeof attachedBody>;

const windowBody = z.object({ limit: z.int().min(0) });
const empty = z.object({});

/** Bodies of control frames by who sends them. A type that a side does not list is a protocol error from that side. */
export const FROM_GATEWAY = {
  CHALLENGE: z.object({
    nonce: z.string().min(43).max(128),
    server_id: z.string().min(1).max(128),
    min_version: z.int(),
    max_version: z.int(),
  }),
  WELCOME: z.object({
    version: z.int(),
    server_id: z.string().min(1).max(128),
    replicas: z.int().min(1).max(10_000),
    peers,
    heartbeat_ms: z.int().min(1),
    dead_ms: z.int().min(1),
  }),
  AUTH_REFRESH: z.object({ nonce: z.string().min(43).max(128) }),
  HEARTBEAT: z.object({ id: count, reply: z.boolean(), echo: count.nullable(), running: count }),
  START: startBody,
  /** Behind INPUT: `keep` leaves stdin open. */
  END: z.object({ keep: z.boolean().optional() }),
  WINDOW: windowBody,
  CANCEL: z.object({ reason: z.string().max(64), execution_id: executionId.optional() }),
  RESULT_ACK: z.object({ execution_id: executionId }),
  STATUS: z.object({ ref: count, execution_id: executionId, refuse_if_unknown: z.boolean() }),
  ATTACH: z.object({
    execution_id: executionId,
    /** Who reads: an ATTACH takes the place of the one before by the same reader. Null: who sent START. */
    reader: z.string().min(1).max(64).nullable(),
    offsets: z.object({ '1': count, '2': count, '3': count }),
    /** Files whose END has come: an empty one leaves no trace in the offsets. */
    files: count,
    /** Bytes before the offsets that have not been taken yet: they fill the new stream's window. */
    pending: z.int().min(0).max(STREAM_WINDOW_BYTES),
  }),
  DETACH: empty,
  INPUT: z.object({
    execution_id: executionId,
    /** Who writes: an INPUT takes the place of the one before by the same writer. */
    writer: z.string().min(1).max(64),
  }),
  CLAIM: z.object({
    ref: count,
    key: claimKey,
    digest: claimDigest,
    /** The execution that the key is to stand for. */
    execution_id: executionId,
    /** The one that it stood for, which surely never began. */
    replaces: executionId.nullable(),
    keep_ms: count,
    /** Gives the key back: the execution will not begin. */
    release: z.boolean(),
    /** As START has it. A gateway of an earlier version does not say. */
    holder: holderName.optional(),
  }),
  SIGNAL: z.object({ ref: count, execution_id: executionId, signal: signalName }),
  SESSION: sessionAsk,
  RESIZE: terminalSize,
  GOAWAY: z.object({ reason: sentence, deadline_ms: count, reconnect_after_ms: count }),
} as const;

export const FROM_AGENT = {
  HELLO: z.object({
    min_version: z.int(),
    max_version: z.int(),
    token,
    instance: instanceName,
    time: count,
    signature,
    software: z.string().max(128),
    clusters: z.array(clusterName).min(1).max(MAX_CLUSTERS),
    peers,
  }),
  AUTH_REFRESH: z.object({ token, time: count, signature }),
  HEARTBEAT: FROM_GATEWAY.HEARTBEAT,
  SLOTS: z.object({ grants, clusters: z.array(clusterAnnouncement).max(MAX_CLUSTERS).nullable() }),
  ACCEPT: z.object({
    attached: attachedBody.optional(),
    /** Answers INPUT: bytes that the agent has had from this writer. */
    input: z.object({ taken: count }).optional(),
  }),
  NACK: z.object({ code: z.string().max(64), detail: sentence, retry_after_ms: count.nullable() }),
  STARTED: empty,
  END: fileEndBody,
  WINDOW: windowBody,
  EXIT: exitBody,
  STATUS: z.object({
    ref: count,
    execution_id: executionId,
    state: z.enum(RECORD_STATES),
    record: recordBody.nullable(),
  }),
  /** Whose the key is now; null where the agent, or the holder's share of it, has no room to remember it. */
  CLAIM: z.object({
    ref: count,
    execution_id: executionId.nullable(),
    digest: claimDigest.nullable(),
    state: z.enum(RECORD_STATES),
  }),
  REPLAY_GAP: z.object({ channel: z.int().min(1).max(3), from: count, to: count }),
  SIGNAL: z.object({ ref: count, state: z.enum(SIGNAL_STATES) }),
  SESSION: sessionAnswer,
  INPUT: z.object({ taken: count, why: z.enum(['closed', 'kept', 'ended', 'replaced']) }),
  DRAIN: z.object({ deadline_ms: count }),
} as const;

export type FromGateway = { [Name in keyof typeof FROM_GATEWAY]: z.infer<(typeof FROM_GATEWAY)[Name]> };
export type FromAgent = { [Name in keyof typeof FROM_AGENT]: z.infer<(typeof FROM_AGENT)[Name]> };
