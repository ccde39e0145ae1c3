import { fileList, fileUploaded } from '../../shared/api.ts';
import { keyEnded, type WatchKeyDeps, watchKey } from '../auth/watch-key.ts';
import { attachmentDisposition } from '../files/disposition.ts';
import { downloadOf } from '../files/download.ts';
import { Downloads } from '../files/downloads.ts';
import type { FileMeta, FileStore } from '../files/file-store.ts';
import { receiveUpload } from '../files/upload.ts';
import type { DiscardBounds } from '../http/discard.ts';
import { PAGE_QUERY, readPage } from '../http/page.ts';
import { jsonResponse } from '../http/problem-response.ts';
import type { KeyedContext, Route } from '../http/route.ts';

export type FileRoutesDeps = WatchKeyDeps & { fileStore: FileStore; discard?: DiscardBounds };

const binary = { 'application/octet-stream': { schema: { type: 'string', contentEncoding: 'binary' } } };

/** `/v1/files` and what is below it. */
export function createFileRoutes(deps: FileRoutesDeps): Route[] {
  const { fileStore, timers, discard } = deps;
  const downloads = new Downloads();

  async function store({ request, caller }: KeyedContext): Promise<Response> {
    const { principal, holder, limits } = caller;
    const denied = new AbortController();
    const unwatch = watchKey(deps, caller, () => denied.abort(keyEnded()));
    try {
      const { file_id, filename, size_bytes } = await receiveUpload(request, {
        open: (signal) => fileStore.create(principal, { holder, ceilings: limits, signal }),
        denied: denied.signal,
        timers,
        ...(discard ? { discard } : {}),
      });
      return jsonResponse({ file_id, filename, size_bytes }, { status: 201 });
    } finally {
      unwatch();
    }
  }

  async function list({ request, caller }: KeyedContext): Promise<Response> {
    return jsonResponse(await fileStore.list(caller.principal, readPage(new URL(request.url).searchParams)));
  }

  async function download({ request, caller, params, info }: KeyedContext): Promise<Response> {
    const { principal, holder } = caller;
    const id = params.id ?? '';
    if (request.method === 'HEAD')
      return new Response(null, { headers: headersOf(await fileStore.stat(principal, id)) });
    const ended = downloads.begin(holder);
    // When the client leaves, the server cancels the body: a signal here would turn every such leaving into an error in
    // the server's log.
    const { meta, body } = await fileStore.open(principal, id).catch((error: unknown) => {
      ended();
      throw error;
    });
    const watch = (denied: (failure: Error) => void) => {
      const unwatch = watchKey(deps, caller, () => denied(keyEnded()));
      return () => {
        unwatch();
        ended();
      };
    };
    return new Response(downloadOf(body, { ...info, watch, timers }), { headers: headersOf(meta) });
  }

  async function remove({ caller, params }: KeyedContext): Promise<Response> {
    await fileStore.delete(caller.principal, params.id ?? '');
    return new Response(null, { status: 204 });
  }

  return [
    {
      method: 'POST',
      path: '/v1/files',
      scope: 'files',
      handle: store,
      doc: {
        summary: 'Store a file',
        requestContent: {
          'multipart/form-data': {
            schema: {
              type: 'object',
              properties: { file: { type: 'string', contentEncoding: 'binary' } },
              required: ['file'],
            },
          },
        },
        responses: { 201: { description: 'It is stored until FILE_TTL_SEC is over', schema: fileUploaded } },
        problems: [413, 501, 503],
      },
    },
    {
      method: 'GET',
      path: '/v1/files',
      scope: 'files',
      handle: list,
      doc: {
        summary: 'List files, the oldest first',
        query: PAGE_QUERY,
        responses: { 200: { description: 'Those of this caller', schema: fileList } },
      },
    },
    {
      method: 'GET',
      path: '/v1/files/{id}',
      scope: 'files',
      handle: download,
      doc: {
        summary: 'Download a file',
        responses: { 200: { description: 'Its bytes', content: binary } },
        problems: [404, 503],
      },
    },
    {
      method: 'DELETE',
      path: '/v1/files/{id}',
      scope: 'files',
      handle: remove,
      doc: { summary: 'Delete a file', responses: { 204: { description: 'It is gone' } }, problems: [404] },
    },
  ];
}

function headersOf({ size_bytes, filename }: FileMeta): Record<string, string> {
  return {
    'Content-Type': 'application/octet-stream',
    'Content-Length': String(size_bytes),
    'Content-Disposition': attachmentDisposition(filename),
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': 'private, no-store',
  };
}
