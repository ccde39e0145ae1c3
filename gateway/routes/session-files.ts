import * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import {
  deleteQuery,
  filePathQuery,
  mkdirRequest,
  moveRequest,
  treePathQuery,
  treeUnpacked,
  workspaceEntry,
} from '../../shared/session-api.ts';
import { attachmentDisposition } from '../files/disposition.ts';
import { readPage } from '../http/page.ts';
import { checkSchema } from '../http/parse-json.ts';
import { jsonResponse, problemResponse } from '../http/problem-response.ts';
import { readRange } from '../http/read-range.ts';
import type { KeyedContext, KeyedRoute, Route } from '../http/route.ts';
import { readEntryCursor, toEntryCursor } from '../sessions/entry-cursor.ts';
import { bytesOf, checkFacts, filePart } from '../sessions/file-answer.ts';
import { createFileRequests, type FileRequests } from '../sessions/file-requests.ts';
import type { SessionBook } from '../sessions/session-book.ts';
import { createSessionRequests, type SessionRequestsDeps } from '../sessions/session-requests.ts';
import { FILE_DOCS } from './session-file-docs.ts';

const entryPage = z.object({
  entries: z.array(workspaceEntry),
  more: z.boolean(),
  next: z.string().optional(),
});

/** Files of a session, as streams: nothing is held here, and nothing outside the workspace can be named. */
export function createSessionFileRoutes(deps: SessionRequestsDeps, book: SessionBook): Route[] {
  const requests = createSessionRequests(deps);
  const files = createFileRequests(deps, requests, book);

  async function write(context: KeyedContext): Promise<Response> {
    const { path } = queryOf(context, filePathQuery);
    return jsonResponse(await files.send(context, workspaceEntry, { op: 'stat', path }, path));
  }

  async function remove(context: KeyedContext): Promise<Response> {
    const { path, recursive } = queryOf(context, deleteQuery);
    await files.facts(context, z.object({}), { op: 'delete', path, recursive: recursive === 'true' });
    return new Response(null, { status: 204 });
  }

  async function stat(context: KeyedContext): Promise<Response> {
    const { path } = queryOf(context, treePathQuery);
    return jsonResponse(await files.facts(context, workspaceEntry, { op: 'stat', path }));
  }

  async function mkdir(context: KeyedContext): Promise<Response> {
    const { asked, release } = await requests.read(context, mkdirRequest);
    release();
    return jsonResponse(await files.facts(context, workspaceEntry, { op: 'mkdir', path: asked.path }));
  }

  async function move(context: KeyedContext): Promise<Response> {
    const { asked, release } = await requests.read(context, moveRequest);
    release();
    const { from: path, to } = asked;
    return jsonResponse(await files.facts(context, workspaceEntry, { op: 'move', path, to }));
  }

  async function unpack(context: KeyedContext): Promise<Response> {
    const { path } = queryOf(context, treePathQuery);
    return jsonResponse(await files.send(context, treeUnpacked, { op: 'unpack', path }));
  }

  return [
    route('GET', 'files', (context) => read(files, context), FILE_DOCS.read),
    route('PUT', 'files', write, FILE_DOCS.write),
    route('DELETE', 'files', remove, FILE_DOCS.remove),
    route('GET', 'files/list', (context) => list(files, context), FILE_DOCS.list),
    route('GET', 'files/stat', stat, FILE_DOCS.stat),
    route('POST', 'files/mkdir', mkdir, FILE_DOCS.mkdir),
    route('POST', 'files/move', move, FILE_DOCS.move),
    route('GET', 'tree', (context) => pack(files, context), FILE_DOCS.pack),
    route('PUT', 'tree', unpack, FILE_DOCS.unpack),
  ];
}

function route(
  method: Route['method'],
  below: string,
  handle: KeyedRoute['handle'],
  doc: Route['doc'],
): KeyedRoute {
  return { method, path: `/v1/sessions/{id}/${below}`, scope: 'sessions', handle, doc };
}

async function read(files: FileRequests, context: KeyedContext): Promise<Response> {
  const { path } = queryOf(context, filePathQuery);
  const range = readRange(context.request.headers);
  const asked = files.ask(context, { op: 'read', path, ...(range ?? { first: 0, last: null }) });
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

async function pack(files: FileRequests, context: KeyedContext): Promise<Response> {
  const { path } = queryOf(context, treePathQuery);
  const { rest, run } = await files.ask(context, { op: 'pack', path });
  return new Response(bytesOf(run, rest, null, context.info), {
    headers: { 'Content-Type': 'application/x-tar', 'Cache-Control': 'private, no-store' },
  });
}

async function list(files: FileRequests, context: KeyedContext): Promise<Response> {
  const params = new URL(context.request.url).searchParams;
  const { path } = checkSchema(treePathQuery, params.has('path') ? { path: params.get('path') } : {});
  params.delete('path');
  const { limit, cursor = '' } = readPage(params);
  const after = readEntryCursor(cursor);
  const found = await files.facts(context, entryPage, { op: 'list', path, after, limit });
  // A runner of an earlier version does not say where its page ends.
  const { entries, more, next = entries.at(-1)?.name } = found;
  const next_cursor = more && next !== undefined ? toEntryCursor(next) : null;
  return jsonResponse({ entries, next_cursor });
}

function queryOf<S extends z.ZodType>({ request }: KeyedContext, schema: S): z.output<S> {
  return checkSchema(schema, Object.fromEntries(new URL(request.url).searchParams));
}

/** 416 tells how long the file is (RFC 9110 15.5.17); whatever else is thrown on. */
function outOfRange(error: unknown, requestId: string): Response {
  if (!(error instanceof Failure) || error.code !== 'range_not_satisfiable') throw error;
  const [size] = /\d+/.exec(error.detail) ?? [];
  return problemResponse(error, requestId, size === undefined ? {} : { 'Content-Range': `bytes */${size}` });
}
