import { type Context, Hono } from 'hono';
import * as z from 'zod';
import { Failure } from '../../shared/errors.ts';
import { type Caller, requireScope } from '../auth/caller.ts';
import { attachmentDisposition } from '../files/disposition.ts';
import type { FileStore } from '../files/file-store.ts';
import { type DiscardBounds, receiveUpload } from '../files/upload.ts';

/** Files of one page, unless asked for fewer; clients that know no cursor see this many. */
export const MAX_LISTED_FILES = 1_000;

export type FileRoutesDeps = {
  store: FileStore;
  /** Who was authenticated before these routes ran. */
  callerOf: (context: Context) => Caller;
  discard?: DiscardBounds;
};

const pageQuery = z.object({
  limit: z
    .string()
    .regex(/^\d{1,9}$/, 'limit must be a whole number')
    .transform(Number)
    .pipe(
      z
        .int()
        .min(1, 'limit must be at least 1')
        .max(MAX_LISTED_FILES, `limit exceeds maximum of ${MAX_LISTED_FILES}`),
    )
    .default(MAX_LISTED_FILES),
  cursor: z.string().max(256, 'cursor is not one that this list gave').optional(),
});

/** The routes below `/v1/files`; Failures are the mounting app's to answer. */
export function createFileRoutes({ store, callerOf, discard }: FileRoutesDeps): Hono {
  const permitted = (context: Context): Caller => {
    const caller = callerOf(context);
    requireScope(caller, 'files');
    return caller;
  };
  const routes = new Hono();

  routes.post('/', async (context) => {
    const { principal, holder, limits } = permitted(context);
    const { file_id, filename, size_bytes } = await receiveUpload(context.req.raw, {
      open: (signal) => store.create(principal, { account: holder, ceilings: limits, signal }),
      ...(discard ? { discard } : {}),
    });
    return context.json({ file_id, filename, size_bytes }, 201);
  });

  routes.get('/', async (context) => {
    const { principal } = permitted(context);
    return context.json(await store.list(principal, readPage(context.req.query())));
  });

  routes.get('/:id', async (context) => {
    const { principal } = permitted(context);
    const id = context.req.param('id');
    // A body that nobody reads would hold the file open. When the client leaves, the server cancels it: a signal here
    // would turn every such leaving into an error in the server's log.
    const { meta, body } =
      context.req.method === 'HEAD'
        ? { meta: await store.stat(principal, id), body: null }
        : await store.open(principal, id);
    return new Response(body, {
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

function readPage(query: Record<string, string>): z.output<typeof pageQuery> {
  const page = pageQuery.safeParse(query);
  if (page.success) return page.data;
  const errors = page.error.issues.map(({ path, message }) => ({ path: path.join('.'), message }));
  throw new Failure('invalid_request', errors.map(({ message }) => message).join('; '), { errors });
}
