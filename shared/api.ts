import * as z from 'zod';
import { isolationReport, templateIsolation } from './announcement.ts';
import { clusterName } from './cluster-name.ts';
import { MAX_ARGS_BYTES, MAX_QUEUE_TIMEOUT_MS, MAX_REQUEST_FILES } from './limits.ts';
import { OUTCOMES } from './messages.ts';
import { byteSum, env, noNul, requestFile, text, timeoutMs } from './request-fields.ts';
import { pythonResults } from './result-api.ts';
import { LANGUAGES } from './template.ts';

/** Ceilings that shape the request schema: they are configuration, so the schema is made once at boot. */
export type RequestCeilings = { maxTimeoutMs: number };

/** `POST /v1/execute` and `/v1/execute/stream`. Unknown members are ignored. */
export function executeRequestSchema({ maxTimeoutMs }: RequestCeilings) {
  return z.object({
    code: text,
    stdin: text.nullable().default(null),
    timeout_ms: timeoutMs(maxTimeoutMs).default(Math.min(2000, maxTimeoutMs)),
    last_line_interactive: z.boolean().default(true),
    files: z
      .array(requestFile)
      .max(MAX_REQUEST_FILES)
      .superRefine((files, context) => {
        const seen = new Set<string>();
        files.forEach(({ path }, index) => {
          if (seen.has(path))
            context.addIssue({
              code: 'custom',
              message: `File path '${path}' is given twice.`,
              path: [index, 'path'],
            });
          seen.add(path);
        });
      })
      .default([]),
    language: z.enum(LANGUAGES).default('python'),
    template: z.string().min(1).max(63).nullable().default(null),
    cluster: clusterName.nullable().default(null),
    env: env.default({}),
    args: z
      .array(noNul)
      .max(4096)
      .refine(
        (values) => byteSum(values) <= MAX_ARGS_BYTES,
        `args must not exceed ${MAX_ARGS_BYTES} bytes in all`,
      )
      .default([]),
    limits: z
      .object({
        memory_mb: z.int().min(1).nullable().default(null),
        cpu_seconds: z.int().min(1).nullable().default(null),
        max_output_bytes: z.int().min(0).nullable().default(null),
        output_limit_bytes: z.int().min(1).nullable().default(null),
      })
      .prefault({}),
    queue_timeout_ms: z.int().min(0).max(MAX_QUEUE_TIMEOUT_MS).default(5000),
    detach: z
      .boolean()
      .default(false)
      .describe('runs to its end when the caller goes away, and can be asked for by its id for ten minutes'),
    rich: z
      .boolean()
      .default(false)
      .describe(
        'python: representations of the last value in place of its print, open figures, the error as data',
      ),
  });
}
export type ExecuteRequest = z.output<ReturnType<typeof executeRequestSchema>>;

export const bytes = z.int().min(0);
export const unixSeconds = z.number().describe('Unix time in seconds');

export const resultFile = z.object({ path: z.string(), kind: z.literal('file'), file_id: z.uuid() });

/** What both answers, JSON and the stream's `result` event, say of the end. */
export const ended = {
  exit_code: z
    .int()
    .nullable()
    .describe('null when it timed out or was cancelled; 128 + signal when a signal ended it'),
  timed_out: z.boolean(),
  duration_ms: z.int().describe("the program's own time"),
  files: z.array(resultFile),
  execution_id: z.string(),
  cluster: z.string(),
  outcome: z.enum(OUTCOMES),
  signal: z.int().nullable(),
  stdout_bytes: bytes,
  stderr_bytes: bytes,
  stdout_truncated: z.boolean(),
  stderr_truncated: z.boolean(),
  queue_ms: z.int(),
  cpu_ms: z.int(),
  peak_memory_bytes: bytes,
  files_omitted: z.array(z.object({ path: z.string(), reason: z.string() })),
  files_omitted_count: z.int(),
};

/** Only where the request says `rich`. */
const richResults = {
  results: pythonResults.results.optional(),
  results_omitted: pythonResults.results_omitted.optional(),
  error: pythonResults.error.optional(),
};

export const executeResponse = z.object({ stdout: z.string(), stderr: z.string(), ...ended, ...richResults });
export type ExecuteResponse = z.infer<typeof executeResponse>;

export const outputEvent = z
  .object({ stream: z.enum(['stdout', 'stderr']), data: z.string() })
  .meta({ title: 'OutputEvent' });
/** Bytes of a stream that are not kept any more. */
export const gapEvent = z
  .object({ stream: z.enum(['stdout', 'stderr']), from: bytes, to: bytes })
  .meta({ title: 'GapEvent' });
export const resultEvent = z.object({ ...ended, ...richResults }).meta({ title: 'ResultEvent' });
export const errorEvent = z
  .object({ message: z.string(), code: z.string(), started: z.enum(['yes', 'no', 'unknown']) })
  .meta({ title: 'ErrorEvent' });
export type ResultEvent = z.infer<typeof resultEvent>;

export const healthResponse = z.object({
  status: z.enum(['ok', 'error']),
  message: z.string().nullable(),
  version: z.string(),
});

export const fileUploaded = z.object({ file_id: z.uuid(), filename: z.string(), size_bytes: bytes });
export const fileList = z.object({
  files: z.array(fileUploaded.extend({ upload_time: unixSeconds })),
  next_cursor: z.string().nullable(),
});

export const clusterList = z.object({
  clusters: z.array(
    z.object({
      name: z.string(),
      state: z.enum(['ready', 'degraded', 'unavailable']),
      detail: z.string().nullable(),
      backend: z.string(),
      kubernetes_version: z.string().nullable(),
      instances: z.array(
        z.object({ instance: z.string(), first_seen: unixSeconds, links: z.int(), draining: z.boolean() }),
      ),
      templates: z.array(
        z.object({
          name: z.string(),
          languages: z.array(z.string()),
          reuse: z.string(),
          network: z.string(),
          slots_free: z.int(),
          slots_total: z.int(),
          max_memory_mb: z.int(),
          max_timeout_ms: z.int(),
          trouble: z.object({ code: z.string(), detail: z.string() }).nullable(),
          isolation: templateIsolation.nullable(),
        }),
      ),
      isolation: isolationReport,
    }),
  ),
  next_cursor: z.string().nullable(),
});

export const executionStatus = z.object({
  execution_id: z.string(),
  cluster: z.string(),
  state: z.enum(['accepted', 'started', 'ended']),
  started_at: unixSeconds.nullable(),
  ended_at: unixSeconds.nullable(),
  result: z
    .object({
      outcome: z.enum(OUTCOMES),
      exit_code: z.int().nullable(),
      signal: z.int().nullable(),
      timed_out: z.boolean(),
      duration_ms: z.int(),
      cpu_ms: z.int(),
      peak_memory_bytes: bytes,
      stdout_bytes: bytes,
      stderr_bytes: bytes,
    })
    .nullable(),
  failure: z
    .object({ code: z.string(), detail: z.string(), started: z.enum(['yes', 'no', 'unknown']) })
    .nullable(),
});

export const problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string(),
  retryable: z.boolean(),
  started: z.enum(['yes', 'no', 'unknown']).optional(),
  request_id: z.string(),
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
});
