import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { admitPod } from './admission.ts';
import {
  ApiError,
  type ApiRequest,
  allows,
  checkRules,
  conflict,
  notFound,
  parseApiRequest,
  type Rule,
} from './api-request.ts';
import { type Authority, createAuthority } from './certificates.ts';
import { createExecServer, type ExecServer } from './exec-server.ts';
import { createFakeKubelet, type FakeKubelet } from './fake-kubelet.ts';
import {
  createObjectStore,
  createRevision,
  type KubeObject,
  type ObjectStore,
  selectorOf,
} from './object-store.ts';
import { serveWatch } from './watch-response.ts';

/** What to answer instead; `undefined` lets the request through. */
export type Fault = (
  request: ApiRequest,
) =>
  | { status?: number; message?: string; headers?: Record<string, string>; delayMs?: number; hang?: boolean }
  | undefined;

export type KubeApi = AsyncDisposable & {
  readonly url: string;
  readonly authority: Authority;
  readonly kubelet: FakeKubelet;
  readonly exec: ExecServer;
  /** Requests that came, by `VERB resource`. */
  readonly counts: ReadonlyMap<string, number>;
  store(resource: string): ObjectStore;
  /** A kubeconfig for a token with these rights, as text. */
  kubeconfig(options?: {
    context?: string;
    token?: string;
    rules?: readonly Rule[] | 'all';
    namespace?: string;
  }): string;
  /** Takes away a token. */
  revoke(token: string): void;
  /** Asked for every request, until it is set to undefined. */
  fault: Fault | undefined;
  /** What admission makes of a new pod; undefined: nothing. */
  mutate: ((pod: KubeObject) => KubeObject) | undefined;
  /** Objects of one page of a list, whatever was asked for; undefined: as many as were asked for. */
  pageSize: number | undefined;
  /** So many creations of pods from now on are made, and their answers lost. */
  loseAnswers: number;
  /** Cuts every open watch. */
  dropWatches(): void;
  /** Forgets what watches could go on from: they get 410. */
  compact(): void;
  /** Takes no connections and cuts those there are, as a server that restarts. */
  stop(): Promise<void>;
  start(): Promise<void>;
};

/** Whose certificate of the authority names this organization may do all. */
export const ADMINISTRATORS = 'system:masters';
/** Whoever has a token may ask what it allows. */
const ACCESS_REVIEWS = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';

const RESOURCES = [
  'pods',
  'leases',
  'namespaces',
  'resourcequotas',
  'limitranges',
  'events',
  'networkpolicies',
];

/** A Kubernetes API server, scheduler and kubelet of one node, with containers that are real processes. */
export async function createKubeApi(options: { bookmarkMs?: number } = {}): Promise<KubeApi> {
  const authority = createAuthority();
  const revision = createRevision();
  const stores = new Map(RESOURCES.map((name) => [name, createObjectStore(revision)]));
  const store = (name: string) => stores.get(name) as ObjectStore;
  const kubelet = createFakeKubelet(store('pods'));
  const exec = createExecServer();
  const tokens = new Map<string, readonly Rule[] | 'all'>();
  const counts = new Map<string, number>();
  const watches = new Set<ServerResponse>();
  const sockets = new Set<Duplex>();
  const identity = authority.issue({ name: 'kube-apiserver' });
  let server: Server;
  let port = 0;

  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      if (incoming.url === '/version') {
        answer(response, 200, { gitVersion: 'v1.33.0-fake' });
        return;
      }
      if (incoming.url === ACCESS_REVIEWS) {
        const { spec } = await readBody(incoming);
        const allowed = allows(rulesOf(incoming), spec.resourceAttributes);
        answer(response, 201, { kind: 'SelfSubjectAccessReview', spec, status: { allowed } });
        return;
      }
      const request = await admitRequest(incoming);
      if (request === 'hang') return;
      const body = await readBody(incoming);
      if (request.verb === 'watch') {
        watch(request, response);
        return;
      }
      const asked = incoming.headers.accept?.includes('as=PartialObjectMetadataList');
      const whole = perform(request, body);
      const result = asked ? metadataOf(whole as { items: KubeObject[] }) : whole;
      if (request.verb === 'create' && request.resource === 'pods' && api.loseAnswers > 0) {
        api.loseAnswers -= 1;
        response.destroy();
        return;
      }
      answer(response, request.verb === 'create' ? 201 : 200, result);
    } catch (error) {
      const known = error instanceof ApiError ? error : new ApiError(500, 'InternalError', String(error));
      answer(response, known.status, known.body, known.headers);
    }
  }

  function rulesOf(incoming: IncomingMessage): readonly Rule[] | 'all' {
    const socket = incoming.socket as TLSSocket;
    if (socket.authorized && socket.getPeerCertificate().subject.O === ADMINISTRATORS) return 'all';
    const token = /^Bearer (.+)$/.exec(incoming.headers.authorization ?? '')?.[1] ?? '';
    const rules = tokens.get(token);
    if (rules === undefined) throw new ApiError(401, 'Unauthorized', 'Unauthorized');
    return rules;
  }

  async function admitRequest(incoming: IncomingMessage): Promise<ApiRequest | 'hang'> {
    const url = new URL(incoming.url ?? '/', 'https://localhost');
    const request = parseApiRequest(incoming.method ?? 'GET', url);
    const rules = rulesOf(incoming);
    if (!request || !stores.has(request.resource)) {
      throw new ApiError(404, 'NotFound', 'the server could not find the requested resource');
    }
    const counted = `${request.verb} ${[request.resource, request.subresource].filter(Boolean).join('/')}`;
    counts.set(counted, (counts.get(counted) ?? 0) + 1);
    const fault = api.fault?.(request);
    if (fault?.delayMs) await new Promise((resolve) => setTimeout(resolve, fault.delayMs));
    if (fault?.hang) return 'hang';
    if (fault?.status) {
      throw new ApiError(fault.status, 'Fault', fault.message ?? 'a fault', fault.headers);
    }
    checkRules(request, 'agent', rules);
    return request;
  }

  function perform(request: ApiRequest, body: KubeObject): object {
    const objects = store(request.resource);
    const found = request.name === '' ? undefined : objects.get(request.namespace, request.name);
    if (request.name !== '' && !found) throw notFound(request);
    if (request.verb === 'list') return list(request, objects);
    if (request.verb === 'create') return create(request, objects, body);
    if (request.verb === 'delete') return remove(request, objects, found as KubeObject, body);
    if (request.verb === 'update') return update(request, objects, found as KubeObject, body);
    return found as KubeObject;
  }

  function create(request: ApiRequest, objects: ObjectStore, body: KubeObject): KubeObject {
    const { name } = body.metadata;
    const { resource, namespace } = request;
    if (objects.get(namespace, name))
      throw new ApiError(409, 'AlreadyExists', `${resource} "${name}" already exists`);
    const metadata = { ...body.metadata, ...(namespace === '' ? {} : { namespace }) };
    if (resource === 'namespaces') return objects.add({ ...body, metadata: { ...metadata, namespace: '' } });
    if (!store('namespaces').get('', namespace)) {
      throw new ApiError(404, 'NotFound', `namespaces "${namespace}" not found`);
    }
    const state = {
      namespace: store('namespaces').get('', namespace),
      quotas: store('resourcequotas').list(namespace),
      limitRanges: store('limitranges').list(namespace),
      pods: store('pods').list(namespace),
    };
    if (resource !== 'pods') return objects.add({ ...body, metadata });
    const pod = { ...body, metadata };
    const admitted = api.mutate?.(pod) ?? pod;
    admitPod(admitted, state);
    return objects.add({ ...admitted, status: { phase: 'Pending' } });
  }

  function update(
    request: ApiRequest,
    objects: ObjectStore,
    found: KubeObject,
    body: KubeObject,
  ): KubeObject {
    const { resourceVersion } = body.metadata;
    if (resourceVersion !== undefined && resourceVersion !== found.metadata.resourceVersion)
      throw conflict(
        request,
        'the object has been modified; please apply your changes to the latest version',
      );
    return objects.put({
      ...body,
      metadata: { ...found.metadata, ...body.metadata, uid: found.metadata.uid },
    });
  }

  function remove(request: ApiRequest, objects: ObjectStore, found: KubeObject, body: KubeObject): object {
    const { uid, resourceVersion } = (body?.preconditions ?? {}) as {
      uid?: string;
      resourceVersion?: string;
    };
    if (uid !== undefined && uid !== found.metadata.uid)
      throw conflict(
        request,
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${found.metadata.uid}`,
      );
    if (resourceVersion !== undefined && resourceVersion !== found.metadata.resourceVersion)
      throw conflict(request, `Precondition failed: ResourceVersion in precondition: ${resourceVersion}`);
    if (request.resource === 'pods') {
      kubelet.remove(found, body?.gracePeriodSeconds);
      return found;
    }
    objects.remove(request.namespace, request.name);
    collect(request.namespace, found.metadata.uid);
    return { kind: 'Status', apiVersion: 'v1', status: 'Success' };
  }

  /** Garbage collection: what the object owned goes too. */
  function collect(namespace: string, uid: string): void {
    const owned = ({ metadata }: KubeObject) =>
      metadata.ownerReferences?.some((owner) => owner.uid === uid) ?? false;
    for (const pod of store('pods').list(namespace, owned)) kubelet.remove(pod);
  }

  function list({ namespace, query }: ApiRequest, objects: ObjectStore): object {
    const found = objects.list(namespace, selectorOf(query.get('labelSelector')));
    const from = Number(query.get('continue') ?? 0);
    const limit = Number(query.get('limit') ?? found.length);
    const to = from + Math.min(limit, api.pageSize ?? limit);
    const more = to < found.length ? { continue: String(to) } : {};
    return {
      kind: 'List',
      apiVersion: 'v1',
      metadata: { resourceVersion: String(objects.version), ...more },
      items: found.slice(from, to),
    };
  }

  function watch({ resource, namespace, query }: ApiRequest, response: ServerResponse): void {
    watches.add(response);
    response.on('close', () => watches.delete(response));
    const selects = selectorOf(query.get('labelSelector'));
    serveWatch(response, {
      store: store(resource),
      namespace,
      query,
      selects,
      bookmarkMs: options.bookmarkMs ?? 60_000,
    });
  }

  async function upgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    try {
      const request = await admitRequest(incoming);
      if (request === 'hang') return;
      const pod = store('pods').get(request.namespace, request.name);
      if (!pod) throw notFound(request);
      if (pod.spec.nodeName === undefined)
        throw new ApiError(400, 'BadRequest', `pod ${request.name} does not have a host assigned`);
      exec.handle(incoming, socket, head, kubelet.process(pod));
    } catch (error) {
      const known = error instanceof ApiError ? error : new ApiError(500, 'InternalError', String(error));
      const body = JSON.stringify(known.body);
      const lines = [
        `HTTP/1.1 ${known.status} Refused`,
        'Connection: close',
        `Content-Length: ${Buffer.byteLength(body)}`,
      ];
      socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`);
    }
  }

  async function start(): Promise<void> {
    server = createServer(
      { ...identity, ca: authority.cert, requestCert: true, rejectUnauthorized: false },
      (request, response) => void handle(request, response),
    );
    server.on('upgrade', (request, socket, head) => void upgrade(request, socket, head));
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
  }

  async function stop(): Promise<void> {
    const closed = once(server, 'close');
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  }

  const api: KubeApi = {
    get url() {
      return `https://127.0.0.1:${port}`;
    },
    authority,
    kubelet,
    exec,
    counts,
    store,
    fault: undefined,
    mutate: undefined,
    pageSize: undefined,
    loseAnswers: 0,
    kubeconfig({ context = 'fake', token = `token-${tokens.size}`, rules = 'all', namespace } = {}) {
      tokens.set(token, rules);
      return JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        'current-context': context,
        clusters: [
          {
            name: 'fake',
            cluster: { server: api.url, 'certificate-authority-data': base64(authority.cert) },
          },
        ],
        users: [{ name: 'agent', user: { token } }],
        contexts: [
          { name: context, context: { cluster: 'fake', user: 'agent', ...(namespace ? { namespace } : {}) } },
        ],
      });
    },
    revoke: (token) => tokens.delete(token),
    dropWatches() {
      for (const response of watches) response.destroy();
    },
    compact() {
      for (const each of stores.values()) each.compact();
    },
    stop,
    start,
    async [Symbol.asyncDispose]() {
      await kubelet.close();
      await stop().catch(() => {});
    },
  };
  await start();
  store('namespaces').add({ kind: 'Namespace', metadata: { name: 'default', namespace: '' } });
  return api;
}

function answer(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

async function readBody(incoming: IncomingMessage): Promise<KubeObject> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  return (chunks.length === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString())) as KubeObject;
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

/** As a server answers a list of which only the metadata is wanted. */
function metadataOf(list: { items: readonly KubeObject[] }): object {
  return {
    ...list,
    kind: 'PartialObjectMetadataList',
    items: list.items.map(({ metadata }) => ({ metadata })),
  };
}
