import { Failure } from '../../../shared/errors.ts';
import type { KubeAccess } from './kube-config.ts';
import type { Status } from './kube-objects.ts';

/** Of what a cluster says in its own words. */
export const MAX_WORDS = 2_048;

/** An answer that says yes. Throws a Failure for one that is no object. */
export function bodyOf(text: string, { context }: KubeAccess): object {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy's page.
  }
  if (typeof body === 'object' && body !== null) return body;
  throw new Failure(
    'backend_unavailable',
    `What answers for the API server of context '${context}' is none, or its answer broke off.`,
  );
}

/** What stands between may say yes to a refusal that it hands on: taken for a list, it would be one without pods. */
export function isFailure(body: Status): boolean {
  return body.kind === 'Status' && body.status === 'Failure';
}

export function codeOf({ code }: Status): number {
  return Number.isInteger(code) && Number(code) >= 400 && Number(code) < 600 ? Number(code) : 500;
}

/** A refusal's body; a proxy's is HTML. */
export function parseStatus(text: string): Status {
  try {
    const status: unknown = JSON.parse(text);
    if (typeof status === 'object' && status !== null) return status as Status;
  } catch {
    // Not the API server's.
  }
  return { message: text };
}

/** Of what the cluster says in its own words as much as goes to a log. */
export function wordsOf({ message }: Status): string {
  return typeof message === 'string' ? message.slice(0, MAX_WORDS) : '';
}
