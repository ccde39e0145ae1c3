import { type ErrorCode, Failure } from '../../../shared/errors.ts';
import { wordsOf } from './kube-answer.ts';
import type { Status } from './kube-objects.ts';
import { lackText, type Right } from './rights.ts';

const DEFAULT_RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;
/** The kubelet goes on mounting a token for the account that was, for the best part of an hour. */
const MOUNTED_REFUSED =
  "The cluster does not accept the agent's service account: if it was deleted and made again, delete the agent's pod, so that its next one has a token of the new one.";
const BEING_DELETED = /because it is being terminated/;
/** Whatever the status: a webhook chooses its own, and a policy in the server answers 422. */
const DENIED = /admission webhook .* denied|ValidatingAdmissionPolicy .* denied/;

/** The API server said no. `words` are its own: for the log and for keys with scope `clusters`, never for callers. */
export class KubeRefusal extends Failure {
  readonly httpStatus: number;
  readonly reason: string;
  readonly words: string;
  /** The rule that is missing, where that is why. */
  readonly right: Right | undefined;

  constructor(
    code: ErrorCode,
    detail: string,
    options: {
      httpStatus: number;
      reason: string;
      words: string;
      right?: Right | undefined;
      retryAfterMs?: number;
    },
  ) {
    const { httpStatus, reason, words, retryAfterMs } = options;
    super(code, detail, {
      cause: new Error(`${httpStatus} ${reason}: ${words}`),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
    this.httpStatus = httpStatus;
    this.reason = reason;
    this.words = words;
    this.right = options.right;
  }
}

/** Whether a call that was refused so may be sent again as it was. */
export function isPassing(failure: unknown): boolean {
  if (!(failure instanceof Failure)) return false;
  if (!(failure instanceof KubeRefusal)) return failure.code === 'backend_unavailable';
  return failure.httpStatus === 429 || failure.httpStatus >= 500 || isQuotaRace(failure);
}

/** Two pods counted at once: the quota's own compare-and-swap lost, and the server asks to try again. */
function isQuotaRace({ httpStatus, words }: KubeRefusal): boolean {
  return httpStatus === 409 && words.includes('resourcequotas');
}

/** Whether the agent may not do this at all: it is said once, and by one sentence, not with each try. */
export function lacksRight(failure: unknown): boolean {
  return failure instanceof KubeRefusal && failure.right !== undefined;
}

export function isRefused(failure: unknown, httpStatus: number): failure is KubeRefusal {
  return failure instanceof KubeRefusal && failure.httpStatus === httpStatus;
}

/** A refusal as one code and one sentence. */
export function statusFailure(
  body: Status,
  answer: {
    status: number;
    retryAfter?: string | undefined;
    what: string;
    /** What the call asked for. */
    right?: Right | undefined;
    /** The credential is a service account's, mounted by a kubelet. */
    isMounted?: boolean;
  },
): KubeRefusal {
  const { status, retryAfter, what } = answer;
  const words = wordsOf(body);
  const right = status === 403 || DENIED.test(words) ? missingRight(words, answer.right) : undefined;
  const [code, detail] = right
    ? (['backend_unavailable', lackText([right])] as const)
    : status === 401 && answer.isMounted
      ? (['backend_unavailable', MOUNTED_REFUSED] as const)
      : classify(status, words, what);
  const retryAfterMs = status === 429 || status === 503 ? retryMs(retryAfter, body) : undefined;
  return new KubeRefusal(code, detail, {
    httpStatus: status,
    reason: typeof body.reason === 'string' ? body.reason : '',
    words,
    right,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

function classify(status: number, words: string, what: string): [ErrorCode, string] {
  if (DENIED.test(words))
    return ['policy_denied', "An admission policy of the cluster refuses the template's pod."];
  if (status === 403) return classifyForbidden(words);
  if (status === 401) return ['backend_unavailable', "The cluster does not accept the agent's credentials."];
  if (status === 404) return ['backend_unavailable', unknownText(words, what)];
  if (status === 409) return ['backend_unavailable', 'Another change to the cluster came first.'];
  if (status === 429) return ['backend_unavailable', 'The API server has too much to do.'];
  if (status === 400 || status === 422)
    return [
      'policy_denied',
      "The cluster finds the template's pod invalid: its own words are in the agent's log.",
    ];
  if (words.includes('failed calling webhook'))
    return ['backend_unavailable', 'An admission webhook of the cluster does not answer.'];
  return ['backend_unavailable', `The API server answered ${status}.`];
}

/** A namespace that is not there is said of whatever is to be made in it. */
function unknownText(words: string, what: string): string {
  const [, namespace] = /^namespaces "([^"]+)" not found/.exec(words) ?? [];
  return namespace === undefined
    ? `The cluster does not know ${what}.`
    : `Namespace ${namespace} does not exist.`;
}

/**
 * The rule whose lack the words speak of, or what a policy refuses. A server whose words are others', or none, has said no
 * to the call as it was; only the creation of a pod can be refused for what the pod is.
 */
function missingRight(words: string, asked: Right | undefined): Right | undefined {
  const named =
    /cannot ([\w-]+) resource "([^"]+)" in API group "([^"]*)"(?: in the namespace "([^"]+)")?/.exec(words);
  if (named) {
    const [, verb = '', resource = '', group = '', namespace] = named;
    return { verb, resource, group, namespace };
  }
  const isOther = BEING_DELETED.test(words) || (asked?.verb === 'create' && asked.resource === 'pods');
  if (isOther || asked === undefined) return undefined;
  return DENIED.test(words) ? { ...asked, byPolicy: true } : asked;
}

/** 403 has many meanings, and only the words tell them apart. */
function classifyForbidden(words: string): [ErrorCode, string] {
  if (/exceeded quota|failed quota/.test(words))
    return ['quota_exceeded', "The namespace's quota has no room for another sandbox."];
  // A controller counts a new quota a moment after it is made.
  if (words.includes('status unknown for quota'))
    return ['backend_unavailable', "The namespace's quota is not counted yet."];
  if (words.includes('violates PodSecurity'))
    return ['policy_denied', "The namespace's Pod Security Standard refuses the template's pod."];
  if (BEING_DELETED.test(words)) return ['backend_unavailable', 'The namespace is being deleted.'];
  // A controller makes the default one a moment after the namespace.
  if (/error looking up service account/.test(words))
    return ['backend_unavailable', 'The namespace has not (yet) the service account of the sandboxes.'];
  if (/RuntimeClass ".*" not found|no PriorityClass with name/.test(words))
    return [
      'policy_denied',
      'The cluster has no such runtime class or priority class as the template names.',
    ];
  if (/(maximum|minimum) .* usage per|max limit to request ratio per|LimitRange/.test(words))
    return ['policy_denied', "The namespace's LimitRange refuses the template's resources."];
  return ['policy_denied', "The cluster refuses the template's pod."];
}

function retryMs(header: string | undefined, body: Status): number {
  const seconds = Number(header ?? body.details?.retryAfterSeconds);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds * 1000, MAX_RETRY_MS) : DEFAULT_RETRY_MS;
}
