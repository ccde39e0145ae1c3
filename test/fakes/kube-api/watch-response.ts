import type { ServerResponse } from 'node:http';
import { ApiError } from './api-request.ts';
import type { KubeObject, ObjectStore, StoreEvent } from './object-store.ts';

export type WatchRequest = {
  store: ObjectStore;
  namespace: string;
  query: URLSearchParams;
  selects: (object: KubeObject) => boolean;
  bookmarkMs: number;
};

/** Serves one watch. An object that stops or begins to match is not handled: labels here never change. */
export function serveWatch(response: ServerResponse, request: WatchRequest): void {
  const { store, namespace, query, selects, bookmarkMs } = request;
  const version = Number(query.get('resourceVersion') ?? 0);
  const write = (type: string, object: object) => response.write(`${JSON.stringify({ type, object })}\n`);
  response.writeHead(200, { 'content-type': 'application/json' });
  response.flushHeaders();
  if (version < store.compactedTo) {
    const message = `too old resource version: ${version} (${store.compactedTo})`;
    write('ERROR', new ApiError(410, 'Expired', message).body);
    response.end();
    return;
  }
  const onEvent = ({ type, object }: StoreEvent) => {
    if (object.metadata.namespace === namespace && selects(object)) write(type, object);
  };
  const stop = store.subscribe(version, onEvent);
  const bookmark = setInterval(() => {
    if (query.get('allowWatchBookmarks') !== 'true') return;
    write('BOOKMARK', {
      kind: 'Pod',
      apiVersion: 'v1',
      metadata: { resourceVersion: String(store.version) },
    });
  }, bookmarkMs);
  const end = setTimeout(() => response.end(), Number(query.get('timeoutSeconds') ?? 1800) * 1000);
  response.on('close', () => {
    stop();
    clearInterval(bookmark);
    clearTimeout(end);
  });
}
