import * as z from 'zod';
import { TYPE, type TypeName } from '../../shared/frame-type.ts';
import { MAX_REQUEST_FILES } from '../../shared/limits.ts';
import { exitBody, fileEndBody, startSizes } from '../../shared/messages.ts';
import { runnerSessionWork } from '../../shared/session-messages.ts';
import { LANGUAGES } from '../../shared/template.ts';

const count = z.int().min(0);
const name = z.string().max(256);
const sentence = z.string().max(4096);

/** START: what the agent sends on (protocol.md 4.1). */
export const runnerStartBody = z.object({
  language: z.enum(LANGUAGES),
  last_line_interactive: z.boolean(),
  traceparent: z.string().max(128).nullable(),
  /** Absent: nobody asked for it by HTTP. */
  request_id: z.string().max(128).optional(),
  sizes: startSizes,
  limits: z.object({
    timeout_ms: z.int().min(1),
    max_output_bytes: count,
    memory_bytes: z.int().min(1),
    cpu_seconds: z.int().min(1),
    output_limit_bytes: z.int().min(1).nullable(),
  }),
  collect: z.boolean(),
  /** What a kept sandbox is to do (agent/runner/protocol.md 6). Absent: an execution like any other. */
  session: runnerSessionWork.optional(),
  /** One document of results comes before the files (agent/runner/protocol.md 4.9). */
  rich: z.boolean().optional(),
});
export type RunnerStartBody = z.infer<typeof runnerStartBody>;

/** READY: what a sandbox's runner found when it came up. Written by the sandbox: bounded, and believed for nothing but its own use. */
export const readyBody = z.object({
  ok: z.boolean(),
  version: z.string().max(64),
  python: z.string().max(128),
  arch: z.string().max(64),
  epoch: z.int().min(1).max(0xffff_ffff),
  features: z.object({
    seccomp: z.boolean(),
    /** 0 where the kernel has no Landlock. */
    landlock_abi: z.int().min(0).max(1024),
    namespaces: z.boolean(),
    /** Which memory accounting the runner reads; null: only /proc. */
    cgroup: z.union([z.boolean(), z.string().max(64)]).nullable(),
  }),
  /** What the template requires and the machine has not. */
  missing: z.array(sentence).max(64),
  languages: z.record(name, name),
  preloaded: z.array(name).max(1024),
  preload_failed: z.array(z.object({ name, error: sentence })).max(64),
  base_memory_bytes: count,
  /** Streams that run at this moment: those a new epoch may take over. */
  running: z.array(z.int().min(1).max(0xffff_ffff)).max(16),
});
export type Ready = z.infer<typeof readyBody>;

export const pongBody = z.object({ id: count, processes: count });
export type Pong = z.infer<typeof pongBody>;

/** RESET_DONE: `ok: false` means that the sandbox is to be discarded; `leftovers` says why. */
export const resetDoneBody = z.object({
  ok: z.boolean(),
  leftovers: z.array(sentence).max(MAX_REQUEST_FILES),
});
export type ResetDone = z.infer<typeof resetDoneBody>;

/** Bodies of what a runner may send, DATA aside. Any other type from it is a protocol error. */
export const FROM_RUNNER = {
  READY: readyBody,
  PONG: pongBody,
  RESET_DONE: resetDoneBody,
  STARTED: z.object({}),
  /** `received`: what there is of the input, after a stream was replaced. */
  WINDOW: z.object({ limit: count, received: count.optional() }),
  END: fileEndBody,
  EXIT: exitBody,
} as const satisfies Partial<Record<TypeName, z.ZodType>>;

/** Control frames that go on stream 0, and those that go on an execution's. */
export const ON_STREAM_ZERO: ReadonlySet<number> = new Set([TYPE.READY, TYPE.PONG, TYPE.RESET_DONE]);
export const ON_EXECUTION: ReadonlySet<number> = new Set([TYPE.STARTED, TYPE.WINDOW, TYPE.EXIT]);
