import type * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import { MAX_SESSION_FILE_BYTES } from '../../shared/limits.ts';
import type { FileWork } from '../../shared/session-messages.ts';
import type { ExecutionRun } from '../execution/execution-run.ts';
import { keptBody } from '../http/discard.ts';
import type { KeyedContext } from '../http/route.ts';
import { checkFacts, type FileAnswer, finish, takeFacts } from './file-answer.ts';
import type { SessionBook } from './session-book.ts';
import { createSessionOrders, type Upload } from './session-orders.ts';
import type { SessionRequests, SessionRequestsDeps } from './session-requests.ts';

/** Asks the session that a request names about its files. What the workspace refuses is thrown as a Failure. */
export type FileRequests = {
  /** Waits for the facts. Whatever comes behind them is the caller's to take from the run, and so is the run's end. */
  ask(context: KeyedContext, work: FileWork): Promise<FileAnswer & { run: ExecutionRun }>;
  /** Waits for facts that have the schema's shape, and for the end. */
  facts<S extends z.ZodType>(context: KeyedContext, schema: S, work: FileWork): Promise<z.output<S>>;
  /**
   * The same with the request's body: as the file `as`, or to be unpacked where there is none. A body that is refused is
   * read to its end before that is said. Throws `invalid_request` where it came without its length, `too_large` past
   * `MAX_SESSION_FILE_BYTES`.
   */
  send<S extends z.ZodType>(
    context: KeyedContext,
    schema: S,
    work: FileWork,
    as?: string,
  ): Promise<z.output<S>>;
};

export function createFileRequests(
  deps: SessionRequestsDeps,
  requests: SessionRequests,
  book: SessionBook,
): FileRequests {
  const orders = createSessionOrders(deps);

  async function ask(context: KeyedContext, work: FileWork, upload?: Upload) {
    const place = await book.find(context.caller, context.params.id ?? '', context.pathCluster);
    const order = () => orders.files(context, place, work, upload);
    const run = await requests.begin({ release() {} }, order);
    return { ...(await requests.whileHeard(context, run, () => takeFacts(run, work.path))), run };
  }

  async function facts<S extends z.ZodType>(
    context: KeyedContext,
    schema: S,
    work: FileWork,
    upload?: Upload,
  ): Promise<z.output<S>> {
    const { facts, run } = await ask(context, work, upload);
    const checked = checkFacts(schema, facts, run);
    await requests.whileHeard(context, run, () => finish(run));
    return checked;
  }

  return {
    ask: (context, work) => ask(context, work),
    facts: (context, schema, work) => facts(context, schema, work),
    async send(context, schema, work, as) {
      const { size, source } = bodyOf(context);
      const { body, discard } = keptBody(source);
      try {
        return await facts(context, schema, work, { size, body, ...(as !== undefined && { as }) });
      } catch (error) {
        await discard(deps.timers);
        throw error;
      }
    },
  };
}

/** A body whose size is known before it comes: the sandbox is told it first. */
function bodyOf({ request }: KeyedContext): { size: number; source: ReadableStream<Uint8Array> } {
  const length = request.headers.get('content-length');
  const size = length === null ? (request.body === null ? 0 : Number.NaN) : Number(length);
  if (!Number.isSafeInteger(size))
    throw new Failure('invalid_request', 'Send the body with a Content-Length.');
  if (size > MAX_SESSION_FILE_BYTES)
    throw new Failure('too_large', `The body exceeds ${MAX_SESSION_FILE_BYTES} bytes.`);
  return { size, source: request.body ?? new Blob([]).stream() };
}
