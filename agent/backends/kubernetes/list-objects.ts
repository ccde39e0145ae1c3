import { Failure } from '../../../shared/errors.ts';
import type { KubeClient } from './kube-client.ts';
import type { ObjectList, ObjectMeta } from './kube-objects.ts';
import { isSelected } from './labels.ts';

const PAGE = 500;
/** 50,000 objects of one installation in a namespace. */
export const MAX_LIST_PAGES = 100;

export type Listed = {
  /** From the server's root: a namespace's objects of one kind. */
  path: string;
  labelSelector: string;
  signal?: AbortSignal;
  /** As of a Call, both. */
  vital?: boolean;
  metadataOnly?: boolean;
};

/**
 * Every object that a selector names, page by page, and the version of the last. Whoever reads it deletes what is not
 * in it, or what is: so it rejects with a Failure for an answer that is no list, and for pages without an end.
 */
export async function listObjects<T extends { metadata?: ObjectMeta }>(
  client: Pick<KubeClient, 'call'>,
  { path, labelSelector, ...rest }: Listed,
): Promise<{ items: T[]; version: string | undefined }> {
  const items: T[] = [];
  let next: string | undefined;
  for (let pages = 0; pages < MAX_LIST_PAGES; pages += 1) {
    const query = { labelSelector, limit: String(PAGE), ...(next ? { continue: next } : {}) };
    const page = await client.call<ObjectList<T>>({ method: 'GET', path, query, ...rest });
    // Null is an empty list of some servers.
    if (page.items !== null && !Array.isArray(page.items))
      throw new Failure('backend_unavailable', 'The API server answers a list with what is none.');
    for (const item of page.items ?? []) if (isSelected(item, labelSelector)) items.push(item);
    next = page.metadata?.continue;
    if (!next) return { items, version: page.metadata?.resourceVersion };
  }
  throw new Failure('backend_unavailable', `The API server's list has more than ${MAX_LIST_PAGES} pages.`);
}
