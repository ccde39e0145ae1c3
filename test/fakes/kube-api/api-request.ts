/** One request to the API, taken apart. */
export type ApiRequest = {
  method: string;
  verb: 'get' | 'list' | 'watch' | 'create' | 'update' | 'delete';
  group: string;
  resource: string;
  /** Empty for what belongs to no namespace. */
  namespace: string;
  name: string;
  subresource: string;
  query: URLSearchParams;
};

const PATH =
  /^\/(?:api\/v1|apis\/([^/]+)\/v1)(?:\/namespaces\/([^/]+)(?=\/[^/]))?\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/;

export function parseApiRequest(method: string, url: URL): ApiRequest | undefined {
  const match = PATH.exec(url.pathname);
  if (!match) return undefined;
  const [, group = '', namespace = '', resource = '', name = '', subresource = ''] = match;
  const query = url.searchParams;
  const reads = name !== '' ? 'get' : query.get('watch') === 'true' ? 'watch' : 'list';
  const verb = ({ POST: 'create', PUT: 'update', DELETE: 'delete' } as const)[method] ?? reads;
  return { method, verb, group, resource, namespace, name, subresource, query };
}

/** A refusal with the server's own kind of words. */
export class ApiError extends Error {
  readonly status: number;
  readonly reason: string;
  readonly headers: Record<string, string>;

  constructor(status: number, reason: string, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.headers = headers;
  }

  get body(): object {
    const { status, reason, message } = this;
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      code: status,
    };
  }
}

export function notFound({ resource, name }: ApiRequest): ApiError {
  return new ApiError(404, 'NotFound', `${resource} "${name}" not found`);
}

export function conflict({ resource, name }: ApiRequest, why: string): ApiError {
  return new ApiError(409, 'Conflict', `Operation cannot be fulfilled on ${resource} "${name}": ${why}`);
}

/** Which verbs on which resources a token allows; `pods/exec` as in a Role. */
export type Rule = { resources: readonly string[]; verbs: readonly string[] };

export function allows(
  rules: readonly Rule[] | 'all',
  { verb, resource, subresource = '' }: { verb: string; resource: string; subresource?: string },
): boolean {
  const full = subresource === '' ? resource : `${resource}/${subresource}`;
  return (
    rules === 'all' || rules.some(({ resources, verbs }) => resources.includes(full) && verbs.includes(verb))
  );
}

export function checkRules(request: ApiRequest, user: string, rules: readonly Rule[] | 'all'): void {
  if (allows(rules, request)) return;
  const { verb, group, resource, subresource, namespace } = request;
  const full = subresource === '' ? resource : `${resource}/${subresource}`;
  const what = `cannot ${verb} resource "${full}" in API group "${group}" in the namespace "${namespace}"`;
  throw new ApiError(403, 'Forbidden', `${resource} is forbidden: User "${user}" ${what}`);
}
