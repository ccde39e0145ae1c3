import * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import { MAX_SESSION_FILE_BYTES } from '../../shared/limits.ts';
import {
  deleteQuery,
  filePathQuery,
  mkdirRequest,
  moveRequest,
  treePathQuery,
  treeUnpacked,
  workspaceEntry,
  workspaceList,
} from '../../shared/session-api.ts';
import type { FileWork } from '../../shared/session-messages.ts';
import type { ExecutionRun } from '../execution/execution-run.ts';
import { attachmentDisposition } from '../files/disposition.ts';
import { keptBody } from '../http/discard.ts';
import { PAGE_QUERY, readPage } from '../http/page.ts';
import { checkSchema } from '../http/parse-json.ts';
import { jsonResponse, problemResponse } from '../http/problem-response.ts';
import { readRange } from '../http/read-range.ts';
import type { KeyedContext, Route } from '../http/route.ts';
import { readEntryCursor, toEntryCursor } from '../sessions/entry-cursor.ts';
import {
  bytesOf,
  checkFacts,
  type FileAnswer,
  filePart,
  finish,
  takeFacts,
} from '../sessions/file-answer.ts';
import type { SessionBook } from '../sessions/session-book.ts';
import { createSessionOrders, type Upload } from '../sessions/session-orders.ts';
import { createSessionRequests, type SessionRequestsDeps } from '../sessions/session-requests.ts';
import { BYTES, PATH, RANGE, RECURSIVE, TAR, TREE_PATH } from './session-file-docs.ts';

const PROBLEMS = [403, 404, 409, 413, 422, 429, 502, 503];
const entryPage = z.object({
  entries: z.array(workspaceEntry),
  more: z.boolean(),
  next: z.string().optional(),
});

/** Files of a session, as streams: nothing is held here, and nothing outside the workspace can be named. */
export function createSessionFileRoutes(deps: SessionRequestsDeps, book: SessionBook): Route[] {
  const requests = createSessionRequests(deps);
  const orders = createSessionOrders(deps);
  const queryOf = <S extends z.ZodType>({ request }: KeyedContext, schema: S): z.output<S> =>
    checkSchema(schema, Object.fromEntries(new URL(request.url).searchParams));

  /** Begins a request about files and waits for its facts; the rest of the run is the caller's. */
  async function ask(
    context: KeyedContext,
    files: FileWork,
    upload?: Upload,
  ): Promise<FileAnswer & { run: ExecutionRun }> {
    const place = await book.find(context.caller, context.params.id ?? '', context.pathCluster);
    const order = () => orders.files(context, place, files, upload);
    const run = await requests.begin({ release() {} }, order);
    return { ...(await requests.whileHeard(context, run, () => takeFacts(run, files.path))), run };
  }

  async function facts<S extends z.ZodType>(
    context: KeyedContext,
    schema: S,
    files: FileWork,
    upload?: Upload,
  ): Promise<z.output<S>> {
    const { facts, run } = await ask(context, files, upload);
    const checked = checkFacts(schema, facts, run);
    await requests.whileHeard(context, run, () => finish(run));
    return checked;
  }

  /** The same with the request's body; what is refused of it is read to its end before that is said. */
  async function send<S extends z.ZodType>(
    context: KeyedContext,
    schema: S,
    files: FileWork,
    as?: string,
  ): Promise<z.output<S>> {
    const { size, source } = bodyOf(context);
    const { body, discard } = keptBody(source);
    try {
      return await facts(context, schema, files, { size, body, ...(as !== undefined && { as }) });
    } catch (error) {
      await discard(deps.timers);
      throw error;
    }
  }

  async function read(context: KeyedContext): Promise<Response> {
    const { path } = queryOf(context, filePathQuery);
    const range = readRange(context.request.headers);
    const asked = ask(context, { op: 'read', path, ...(range ?? { first: 0, last: null }) });
    const found = await asked.catch((error: unknown) => outOfRange(error, context.requestId));
    if (found instanceof Response) return found;
    const { facts, rest, run } = found;
    const { start, end, size } = checkFacts(filePart, facts, run);
    // An empty file has no part that a Content-Range could name: it is answered whole.
    const isPart = range !== undefined && end > start;
    return new Response(bytesOf(run, rest, end - start, context.info), {
      status: isPart ? 206 : 200,
      headers: {
        'Content-Type': 'application/octet-stream',
        'Content-Length': String(end - start),
        'Content-Disposition': attachmentDisposition(path.split('/').at(-1) ?? path),
        'X-Content-Type-Options': 'nosniff',
        'Cache-Control': 'private, no-store',
        'Accept-Ranges': 'bytes',
        ...(isPart && { 'Content-Range': `bytes ${start}-${end - 1}/${size}` }),
      },
    });
  }

  async function pack(context: KeyedContext): Promise<Response> {
    const { path } = queryOf(context, treePathQuery);
    const { rest, run } = await ask(context, { op: 'pack', path });
    return new Response(bytesOf(run, rest, null, context.info), {
      headers: { 'Content-Type': 'application/x-tar', 'Cache-Control': 'private, no-store' },
    });
  }

  async function list(context: KeyedContext): Promise<Response> {
    const params = new URL(context.request.url).searchParams;
    const { path } = checkSchema(treePathQuery, params.has('path') ? { path: params.get('path') } : {});
    params.delete('path');
    const { limit, cursor = '' } = readPage(params);
    const found = await facts(context, entryPage, {
      op: 'list',
      path,
      after: readEntryCursor(cursor),
      limit,
    });
    // A runner of an earlier version does not say where its page ends.
    const { entries, more, next = entries.at(-1)?.name } = found;
    const next_cursor = more && next !== undefined ? toEntryCursor(next) : null;
    return jsonResponse({ entries, next_cursor });
  }

  const doc = (summary: string, responses: Record<number, object>, rest: object = {}) =>
    ({ summary, query: PATH, responses, problems: PROBLEMS, ...rest }) as Route['doc'];
  const entry = { 200: { description: 'What is there', schema: workspaceEntry } };
  const base = '/v1/sessions/{id}';
  return [
    {
      method: 'GET',
      path: `${base}/files`,
      scope: 'sessions',
      handle: read,
      doc: doc(
        'Read a file of a session, whole or the bytes that Range names',
        { 200: { description: 'The file', content: BYTES }, 206: { description: 'A part', content: BYTES } },
        { headers: RANGE, problems: [...PROBLEMS, 416] },
      ),
    },
    {
      method: 'PUT',
      path: `${base}/files`,
      scope: 'sessions',
      handle: async (context) => {
        const { path } = queryOf(context, filePathQuery);
        return jsonResponse(await send(context, workspaceEntry, { op: 'stat', path }, path));
      },
      doc: doc('Write a file of a session, with the folders that lead to it', entry, {
        requestContent: BYTES,
      }),
    },
    {
      method: 'DELETE',
      path: `${base}/files`,
      scope: 'sessions',
      handle: async (context) => {
        const { path, recursive } = queryOf(context, deleteQuery);
        await facts(context, z.object({}), { op: 'delete', path, recursive: recursive === 'true' });
        return new Response(null, { status: 204 });
      },
      doc: doc(
        'Delete a file or folder of a session',
        { 204: { description: 'It is gone' } },
        { query: { ...PATH, ...RECURSIVE } },
      ),
    },
    {
      method: 'GET',
      path: `${base}/files/list`,
      scope: 'sessions',
      handle: list,
      doc: doc(
        'List a folder of a session, by name',
        { 200: { description: 'Links are named, not followed', schema: workspaceList } },
        { query: { ...TREE_PATH, ...PAGE_QUERY } },
      ),
    },
    {
      method: 'GET',
      path: `${base}/files/stat`,
      scope: 'sessions',
      handle: async (context) =>
        jsonResponse(
          await facts(context, workspaceEntry, { op: 'stat', ...queryOf(context, treePathQuery) }),
        ),
      doc: doc('What a path of a session is', entry, { query: TREE_PATH }),
    },
    {
      method: 'POST',
      path: `${base}/files/mkdir`,
      scope: 'sessions',
      handle: async (context) => {
        const { asked, release } = await requests.read(context, mkdirRequest);
        release();
        return jsonResponse(await facts(context, workspaceEntry, { op: 'mkdir', path: asked.path }));
      },
      doc: doc('Make a folder in a session; one that is there is as good', entry, {
        request: mkdirRequest,
        query: {},
      }),
    },
    {
      method: 'POST',
      path: `${base}/files/move`,
      scope: 'sessions',
      handle: async (context) => {
        const { asked, release } = await requests.read(context, moveRequest);
        release();
        return jsonResponse(
          await facts(context, workspaceEntry, { op: 'move', path: asked.from, to: asked.to }),
        );
      },
      doc: doc('Move a file or folder of a session', entry, { request: moveRequest, query: {} }),
    },
    {
      method: 'GET',
      path: `${base}/tree`,
      scope: 'sessions',
      handle: pack,
      doc: doc(
        'Take a folder of a session as tar: its files, folders and links',
        { 200: { description: 'The archive', content: TAR } },
        { query: TREE_PATH },
      ),
    },
    {
      method: 'PUT',
      path: `${base}/tree`,
      scope: 'sessions',
      handle: async (context) => {
        const { path } = queryOf(context, treePathQuery);
        return jsonResponse(await send(context, treeUnpacked, { op: 'unpack', path }));
      },
      doc: doc(
        'Unpack a tar, compressed or not, into a folder of a session; one that is damaged is refused, what was unpacked before that stays',
        { 200: { description: 'It is unpacked', schema: treeUnpacked } },
        { query: TREE_PATH, requestContent: TAR },
      ),
    },
  ];
}

/** 416 tells how long the file is (RFC 9110 15.5.17); whatever else is thrown on. */
function outOfRange(error: unknown, requestId: string): Response {
  if (!(error instanceof Failure) || error.code !== 'range_not_satisfiable') throw error;
  const [size] = /\d+/.exec(error.detail) ?? [];
  return problemResponse(error, requestId, size === undefined ? {} : { 'Content-Range': `bytes */${size}` });
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
