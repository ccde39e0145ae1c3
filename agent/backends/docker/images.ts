import { Failure } from '../../../shared/errors.ts';
import { ANSWER } from './engine-answer.ts';
import type { EngineClient } from './engine-client.ts';
import { EngineRefusal } from './engine-failure.ts';

/** What of an image counts for a container. */
export type Image = {
  readonly id: string;
  readonly volumes: readonly string[];
  /** It declares a check of its own, which would run beside the runner. */
  readonly hasCheck: boolean;
};

/** What the engine says of one layer while it pulls. */
export type PullProgress = { readonly layer: string; readonly status: string };

/** Looks for an image on the engine. Rejects with `image_error` where it is not there: nothing is fetched for a caller. */
export async function findImage(client: EngineClient, name: string, signal: AbortSignal): Promise<Image> {
  const path = `/images/${pathOf(name)}/json`;
  const found = await client.call({ method: 'GET', path, signal }, ANSWER.image);
  const { Volumes, Healthcheck } = found.Config ?? {};
  return { id: found.Id, volumes: Object.keys(Volumes ?? {}), hasCheck: Boolean(Healthcheck) };
}

/** Fetches an image from its registry. Rejects with `image_error` and the engine's words where it cannot be had. */
export async function* pullImage(
  client: EngineClient,
  name: string,
  signal: AbortSignal,
): AsyncGenerator<PullProgress> {
  const { fromImage, tag } = splitReference(name);
  const lines = client.follow<{
    id?: string;
    status?: string;
    error?: string;
    errorDetail?: { message?: string };
  }>({
    method: 'POST',
    path: '/images/create',
    query: { fromImage, tag },
    signal,
    timeoutMs: null,
  });
  const refusal = (words: string) => new Failure('image_error', `'${name}' cannot be fetched: ${words}`);
  try {
    for await (const { id = '', status = '', error, errorDetail } of lines) {
      const words = errorDetail?.message ?? error;
      if (words !== undefined) throw refusal(words);
      yield { layer: id, status };
    }
  } catch (cause) {
    // Of a refusal the sentence for callers says to fetch it, which is what failed.
    throw cause instanceof EngineRefusal ? refusal(cause.words) : cause;
  }
}

/** `name`, `name:tag` or `name@digest`: the last colon behind the last slash begins a tag. Without one it is `latest`, not all tags. */
export function splitReference(name: string): { fromImage: string; tag: string } {
  const at = name.indexOf('@');
  if (at !== -1) return { fromImage: name.slice(0, at), tag: name.slice(at + 1) };
  const colon = name.indexOf(':', name.lastIndexOf('/') + 1);
  if (colon === -1) return { fromImage: name, tag: 'latest' };
  return { fromImage: name.slice(0, colon), tag: name.slice(colon + 1) };
}

/** Slashes are the path's own; a template's name must not lead to another route. */
function pathOf(name: string): string {
  const parts = name.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..'))
    throw new Failure('image_error', "The template's image has no name that an engine understands.");
  return parts.map(encodeURIComponent).join('/');
}
