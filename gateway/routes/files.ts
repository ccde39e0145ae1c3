import { type Context, Hono } from 'hono';
import { type Caller, requireScope } from '../auth/caller.ts';
import { keyEnded, type WatchKeyDeps, watchKey } from '../auth/watch-key.ts';
import { attachmentDisposition } from '../files/disposition.ts';
import { downloadOf } from '../files/download.ts';
import type { FileStore } from '../files/file-store.ts';
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
    const { principal } = caller;
    const id = context.req.param('id');
    // A body that nobody reads would hold the file open. When the client leaves, the server cancels it: a signal here
    // would turn every such leaving into an error in the server's log.
    const { meta, body } =
      context.req.method === 'HEAD'
        ? { meta: await store.stat(principal, id), body: null }
        : await store.open(principal, id);
    const watch = (denied: (failure: Error) => void) => watchKey(deps, caller, () => denied(keyEnded()));
    const { info } = (context.env ?? {}) as { info?: RequestInfo };
    return new Response(body && downloadOf(body, { ...info, watch, timers }), {
      headers: {
        'Content-Type': 'application/octet-stream',
        'Content-Length': String(meta.size_bytes),
        'Content-Disposition': attachmentDisposition(meta.filename),
        'X-Content-Type-Options': 'nosniff',
        'Cache-Control': 'private, no-store',
      },
    });
  });

  routes.delete('/:id', async (context) => {
    const { principal } = permitted(context);
    await store.delete(principal, context.req.param('id'));
    return context.body(null, 204);
  });

  return routes;
}
