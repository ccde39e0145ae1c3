import type { IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';
import { Failure } from '../../../shared/errors.ts';
import { EXEC_PROTOCOLS } from './exec-protocol.ts';
import { createExecStream, type ExecStream, type ExecStreamOptions } from './exec-stream.ts';
import { parseStatus } from './kube-answer.ts';
import { connectionOf } from './kube-client.ts';
import type { KubeAccess } from './kube-config.ts';
import { statusFailure } from './kube-failure.ts';
import type { Right } from './rights.ts';

/** What an exec over WebSocket asks for: `create` too since 1.35. */
export const EXEC_VERBS: readonly string[] = ['get', 'create'];
const HANDSHAKE_TIMEOUT_MS = 15_000;
const MAX_MESSAGE_BYTES = 4_194_304;
const MAX_REFUSAL_BYTES = 4_096;

export type ExecOptions = ExecStreamOptions & {
  access: KubeAccess;
  namespace: string;
  pod: string;
  container: string;
  command: readonly string[];
  /** Ends the wait for the stream; a stream that is open is ended by destroying it. */
  signal: AbortSignal;
  /** `EXEC_PROTOCOLS` unless given: a server that has both can be held to the older. */
  protocols?: readonly string[];
};

/** Opens the exec. Rejects with a Failure when the server refuses it or cannot be reached. */
export async function openExec(options: ExecOptions): Promise<ExecStream> {
  const { access, signal, protocols = EXEC_PROTOCOLS } = options;
  const inTime = AbortSignal.any([signal, AbortSignal.timeout(HANDSHAKE_TIMEOUT_MS)]);
  const { headers, tls, proxy } = await connectionOf(access, inTime);
  const socket = new WebSocket(execUrl(options), [...protocols], {
    ...tls,
    headers,
    ...(proxy ? { agent: proxy } : {}),
    perMessageDeflate: false,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    maxPayload: MAX_MESSAGE_BYTES,
    followRedirects: false,
  });
  // From the first byte on: what comes with the upgrade is not lost, and an error always has a listener.
  const stream = createExecStream(socket, options);
  const abort = () => socket.terminate();
  const ignore = () => {};
  stream.on('error', ignore);
  signal.addEventListener('abort', abort, { once: true });
  try {
    await opened(socket, options);
    stream.off('error', ignore);
  } catch (cause) {
    stream.destroy();
    throw signal.aborted ? signal.reason : cause;
  } finally {
    signal.removeEventListener('abort', abort);
  }
  return stream;
}

function execUrl({ access, namespace, pod, container, command }: ExecOptions): URL {
  const url = new URL(
    `${access.server.replace(/^http/, 'ws')}/api/v1/namespaces/${namespace}/pods/${encodeURIComponent(pod)}/exec`,
  );
  for (const part of command) url.searchParams.append('command', part);
  for (const name of ['stdin', 'stdout', 'stderr']) url.searchParams.set(name, 'true');
  url.searchParams.set('container', container);
  return url;
}

function opened(socket: WebSocket, { access, namespace, pod }: ExecOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('open', () => resolve());
    socket.once('unexpected-response', (request, response: IncomingMessage) => {
      void refusalOf(response, pod, { verb: 'get', group: '', resource: 'pods/exec', namespace })
        .then(reject, reject)
        .finally(() => request.destroy());
    });
    socket.once('error', (cause) => {
      const detail = `No exec can be opened through the API server of context '${access.context}'.`;
      reject(new Failure('backend_unavailable', detail, { cause }));
    });
    socket.once('close', () =>
      reject(new Failure('backend_unavailable', 'The exec was closed before it was open.')),
    );
  });
}

async function refusalOf(response: IncomingMessage, pod: string, right: Right): Promise<Failure> {
  let text = '';
  for await (const chunk of response as AsyncIterable<Buffer>) {
    text += chunk.toString('utf8');
    if (text.length > MAX_REFUSAL_BYTES) break;
  }
  const status = response.statusCode ?? 0;
  const refused = statusFailure(parseStatus(text), {
    status,
    retryAfter: response.headers['retry-after'],
    what: `an exec into ${pod}`,
    right,
  });
  // Credentials and rights are the agent's trouble; anything else is this pod's.
  if ([401, 403, 429].includes(status) || refused.right) return refused;
  const detail = status === 404 ? 'The pod is gone.' : 'The pod takes no exec now.';
  return new Failure('sandbox_lost', detail, { cause: refused });
}
