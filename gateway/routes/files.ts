import { type Context, Hono } from 'hono';
import { type Caller, requireScope } from '../auth/caller.ts';
import { keyEnded, type WatchKeyDeps, watchKey } from '../auth/watch-key.ts';
import { attachmentDisposition } from '../files/disposition.ts';
import { downloadOf } from '../files/download.ts';
import { Downloads } from '../files/downloads.ts';
import type { FileMeta, FileStore } from '../files/file-store.ts';
import { receiveUpload } from '../files/upload.ts';
import type { DiscardBounds } from '../http/discard.ts';
import { readPage } from '../http/page.ts';
import type { RequestInfo } from '../http/route.ts';

export type FileRoutesDeps = WatchKeyDeps & {
  store: FileStore;
  /** Who was authenticated before these routes ran. */
  callerOf: (context: Context) => Caller;
  discard?: DiscardBounds;
};

/** The routes below `/v1/files`; Failures are the mounting app's to answer. */
export function createFileRoutes(deps: FileRoutesDeps): Hono {
  const { store, callerOf, timers, discard } = deps;
  const permitted = (context: Context): Caller => {
    const caller = callerOf(context);
    requireScope(caller, 'files');
    return caller;
  };
  const downloads = new Downloads();
  const routes = new Hono();

  routes.post('/', async (context) => {
    const caller = permitted(context);
    const { principal, holder, limits } = caller;
    const denied = new AbortController();
    const unwatch = watchKey(deps, caller, () => denied.abort(keyEnded()));
    try {
      const { file_id, filename, size_bytes } = await receiveUpload(context.req.raw, {
        open: (signal) => store.create(principal, { account: holder, ceilings: limits, signal }),
        denied: denied.signal,
        timers,
        ...(discard ? { discard } : {}),
      });
      return context.json({ file_id, filename, size_bytes }, 201);
    } finally {
      unwatch();
    }
  });

  routes.get('/', async (context) => {
    const { principal } = permitted(context);
    return context.json(await store.list(principal, readPage(new URL(context.req.url).searchParams)));
  });

  routes.get('/:id', async (context) => {
    const caller = permitted(context);
    const { principal, holder } = caller;
    const id = context.req.param('id');
    if (context.req.method === 'HEAD')
      return new Response(null, { headers: headersOf(await store.stat(principal, id)) });
    const ended = downloads.begin(holder);
    // When the client leaves, the server cancels the body: a signal here would turn every such leaving into an error in
    // the server's log.
    const { meta, body } = await store.open(principal, id).catch((error: unknown) => {
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
    const { info } = (context.env ?? {}) as { info?: RequestInfo };
    return new Response(downloadOf(body, { ...info, watch, timers }), { headers: headersOf(meta) });
  });

  routes.delete('/:id', async (context) => {
    const { principal } = permitted(context);
    await store.delete(principal, context.req.param('id'));
    return context.body(null, 204);
  });

  return routes;
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
