import * as z from 'zod';
import { Failure } from '../../../shared/errors.ts';
import { readText } from '../bounded-text.ts';
import { type EngineRefusal, refusalOf } from './engine-failure.ts';

/** Any answer but a list: what is known of one container has the runner in it twice. */
export const MAX_ANSWER_BYTES = 4_194_304;
/** A list of two thousand containers, each with the runner in its command. */
export const MAX_LIST_BYTES = 268_435_456;
/** Of what an engine says in its own words. */
export const MAX_WORDS = 2_048;

type Answer = { readonly statusCode: number; readonly body: AsyncIterable<Uint8Array> };

/** The text of an answer. Rejects with an EngineRefusal for one that says no, and with a Failure for one of more than `maxBytes`. */
export async function readAnswer({ statusCode, body }: Answer, maxBytes: number): Promise<string> {
  let text: string;
  try {
    text = await readText(body, statusCode < 400 ? maxBytes : MAX_ANSWER_BYTES);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new Failure('backend_unavailable', 'The engine answers more than any does.', { cause });
  }
  if (statusCode < 400) return text;
  throw refusedWith(statusCode, text);
}

export function refusedWith(statusCode: number, text: string): EngineRefusal {
  return refusalOf(statusCode, wordsOf(text));
}

/** The value of an answer. Throws a Failure for one that no engine gives. */
export function parseAnswer<T>(text: string, shape: z.ZodType<T>): T {
  try {
    return shape.parse(text.trim() === '' ? undefined : JSON.parse(text));
  } catch (cause) {
    throw new Failure('backend_unavailable', 'The engine answers as none does.', { cause });
  }
}

/** The engine's own sentence. A proxy's answer is HTML. */
function wordsOf(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    if (typeof message === 'string') return message.slice(0, MAX_WORDS);
  } catch {
    // Not the engine's.
  }
  return text.slice(0, MAX_WORDS);
}

const text = z.string();
const words = z.string().transform((said) => said.slice(0, MAX_WORDS));
const flag = z.boolean().optional();

/** What of the engine's answers is used, in the engine's own terms. It leaves out what it does not know, or says null. */
export const ANSWER = {
  version: z.object({
    Version: words.optional(),
    ApiVersion: words.optional(),
    MinAPIVersion: words.optional(),
    Components: z.array(z.object({ Name: text.optional() })).nullish(),
  }),
  info: z.object({
    NCPU: z.number().positive().optional(),
    OSType: words.optional(),
    MemoryLimit: flag,
    SwapLimit: flag,
    PidsLimit: flag,
    CpuCfsQuota: flag,
    CgroupVersion: text.optional(),
    DefaultRuntime: text.optional(),
    /** Podman's; Docker says it among its security options. */
    Rootless: flag,
    SecurityOptions: z.array(text).nullish(),
  }),
  /** Podman's own, beside what it says in Docker's terms. */
  podmanInfo: z.object({ host: z.object({ cgroupControllers: z.array(text).nullish() }) }),
  image: z.object({
    Id: text,
    Config: z
      .object({
        Volumes: z.record(text, z.unknown()).nullish(),
        Healthcheck: z.looseObject({}).nullish(),
      })
      .nullish(),
  }),
  made: z.object({ Id: text, Warnings: z.array(words).nullish() }),
  containers: z.array(
    z.object({
      Id: text,
      Names: z.array(text).nullish(),
      State: text.optional(),
      Labels: z.record(text, text).nullish(),
    }),
  ),
  container: z.object({
    State: z
      .object({
        Status: text.optional(),
        OOMKilled: flag,
        ExitCode: z.number().optional(),
        Error: words.optional(),
      })
      .optional(),
    ExecIDs: z.array(text).nullish(),
  }),
  exec: z.object({ Id: text }),
  execState: z.object({ Running: flag }),
} as const;
