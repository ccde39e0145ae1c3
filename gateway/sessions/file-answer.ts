import * as z from 'zod';
import { type ErrorCode, Failure } from '../../shared/errors.ts';
import { CHANNEL } from '../../shared/frame-type.ts';
import type { ExecutionRun } from '../execution/execution-run.ts';
import { jsonExcess } from '../http/parse-json.ts';
import type { RequestInfo } from '../http/route.ts';

/** The first line of an answer holds a page of entries at most. */
const MAX_HEAD_BYTES = 4_194_304;
const LINE_FEED = 10;

const head = z.union([
  z.object({ ok: z.record(z.string(), z.unknown()) }),
  z.object({
    error: z.object({
      code: z.string().max(64),
      detail: z.string().max(1_024),
      /** What is at fault, where that is not what the request names. */
      path: z.string().max(1_024).optional(),
    }),
  }),
]);

type Head = z.infer<typeof head>;
type Refusal = Extract<Head, { error: unknown }>['error'];

/** What a request about files was answered with: facts, and the bytes that came behind them already. */
export type FileAnswer = { facts: Record<string, unknown>; rest: Uint8Array };

/** Which part of a file comes behind these facts. */
export const filePart = z
  .object({ start: z.int().min(0), end: z.int().min(0), size: z.int().min(0) })
  .refine(({ start, end, size }) => start <= end && end <= size);

/** What the schema has of these facts: a sandbox may have said anything. Ends the run where they are others. */
export function checkFacts<S extends z.ZodType>(
  schema: S,
  facts: FileAnswer['facts'],
  run: Pick<ExecutionRun, 'abandon'>,
): z.output<S> {
  const parsed = schema.safeParse(facts);
  if (parsed.success) return parsed.data;
  run.abandon();
  throw broken();
}

/** Waits for the facts. Throws what the workspace refuses, once the run is over: until then it counts as work of its session. */
export async function takeFacts(
  run: Pick<ExecutionRun, 'next' | 'abandon'>,
  path: string,
): Promise<FileAnswer> {
  const { told, rest } = await takeHead(run).catch((error: unknown) => {
    run.abandon();
    throw error;
  });
  if ('ok' in told) return { facts: told.ok, rest };
  await finish(run).catch(() => {});
  throw refusalOf(told.error, path);
}

async function takeHead(run: Pick<ExecutionRun, 'next'>): Promise<{ told: Head; rest: Uint8Array }> {
  const line = new Line();
  for (;;) {
    const taken = await run.next();
    if (taken.type === 'failed') throw taken.failure;
    if (taken.type === 'end') throw broken();
    if (taken.type !== 'output' || taken.channel !== CHANNEL.stdout) continue;
    const end = taken.bytes.indexOf(LINE_FEED);
    line.add(end < 0 ? taken.bytes : taken.bytes.subarray(0, end));
    if (end >= 0) return { told: headIn(line.bytes), rest: taken.bytes.subarray(end + 1) };
  }
}

/** A first line that comes in pieces, of single bytes too: each is copied once, or twice. */
class Line {
  #held = new Uint8Array(0);
  #length = 0;

  get bytes(): Uint8Array {
    return this.#held.subarray(0, this.#length);
  }

  add(piece: Uint8Array): void {
    const length = this.#length + piece.byteLength;
    if (length > MAX_HEAD_BYTES) throw broken();
    if (length > this.#held.byteLength) {
      const larger = new Uint8Array(Math.min(2 * length, MAX_HEAD_BYTES));
      larger.set(this.bytes);
      this.#held = larger;
    }
    this.#held.set(piece, this.#length);
    this.#length = length;
  }
}

/** Lets the rest of an answer go by; resolves when the run is over. */
export async function finish(run: Pick<ExecutionRun, 'next'>): Promise<void> {
  for (;;) {
    const taken = await run.next();
    if (taken.type === 'failed') throw taken.failure;
    if (taken.type === 'end') return;
  }
}

/**
 * The bytes behind the facts, taken as fast as they are read. It fails where the run does, and where fewer or more come
 * than `length` says: whoever reads never takes a part for the whole.
 */
export function bytesOf(
  run: Pick<ExecutionRun, 'next' | 'onDismiss' | 'abandon'>,
  rest: Uint8Array,
  length: number | null,
  { disconnect }: RequestInfo,
): ReadableStream<Uint8Array> {
  let first = rest;
  let sent = 0;
  return new ReadableStream(
    {
      start(controller) {
        run.onDismiss(() => {
          if (disconnect) disconnect();
          else controller.error(new Error('the reader took nothing for too long'));
        });
      },
      async pull(controller) {
        const bytes = first.byteLength > 0 ? first : await nextOf(run);
        first = new Uint8Array(0);
        if (bytes) {
          sent += bytes.byteLength;
          // On a connection that is kept, what stands behind the length that was told is the next answer.
          if (length !== null && sent > length) {
            run.abandon();
            throw broken();
          }
          // Whoever has the last of it may ask for the next: by then this is no work of its session any more.
          if (sent === length && (await nextOf(run))) {
            run.abandon();
            throw broken();
          }
          controller.enqueue(bytes);
          if (sent === length) controller.close();
        } else if (length !== null && sent !== length) throw broken();
        else controller.close();
      },
      cancel: () => run.abandon(),
    },
    { highWaterMark: 0 },
  );
}

/** Undefined at the end. */
async function nextOf(run: Pick<ExecutionRun, 'next'>): Promise<Uint8Array | undefined> {
  for (;;) {
    const taken = await run.next();
    if (taken.type === 'failed') throw taken.failure;
    if (taken.type === 'gap') throw broken();
    if (taken.type === 'output' && taken.channel === CHANNEL.stdout) return taken.bytes;
    if (taken.type !== 'end') continue;
    const { result, stdoutTruncated } = taken.ending;
    if (result.exit_code !== 0 || stdoutTruncated) throw broken();
    return undefined;
  }
}

function headIn(line: Uint8Array): Head {
  const text = new TextDecoder().decode(line);
  if (jsonExcess(text) !== undefined) throw broken();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw broken();
  }
  const parsed = head.safeParse(value);
  if (!parsed.success) throw broken();
  return parsed.data;
}

function refusalOf({ code, detail, path: atFault }: Refusal, path: string): Failure {
  const own = Object.hasOwn(REFUSALS, code) ? REFUSALS[code] : undefined;
  if (!own) return new Failure('conflict', detail);
  const values: Record<string, string> = { '%': (atFault ?? path) || '.', $: detail };
  return new Failure(
    own[0],
    own[1].replace(/[%$]/g, (mark) => values[mark] as string),
  );
}

function broken(): Failure {
  return new Failure('sandbox_lost', 'The files could not be reached to the end.', { started: 'yes' });
}

const REFUSALS: Record<string, [code: ErrorCode, detail: string] | undefined> = {
  not_found: ['not_found', "There is no '%' in the workspace."],
  exists: ['conflict', "'%' exists already."],
  not_empty: ['conflict', "The directory '%' is not empty: ask with recursive=true to delete all of it."],
  not_a_directory: ['conflict', "'%', or what leads to it, is no directory."],
  is_a_directory: ['conflict', "'%' is a directory."],
  into_itself: ['conflict', "'%' cannot be moved into itself."],
  is_a_link: ['conflict', "'%' is a link, or one leads to it: links are not followed."],
  not_a_file: ['conflict', "'%' is no regular file."],
  no_access: ['conflict', "'%' is closed to the sandbox's own user."],
  no_room: ['too_large', 'The workspace has no room for it.'],
  no_range: ['range_not_satisfiable', 'The file has $ bytes: nothing lies in the range.'],
  bad_path: ['invalid_request', '$'],
  bad_archive: ['invalid_request', 'The archive cannot be unpacked. $'],
};
