import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Failure, toProblem } from '../../shared/errors.ts';
import { problemResponse } from '../http/problem-response.ts';
import { requestIdOf } from '../http/request-ids.ts';

/** A client that does not close what was ended, or goes on sending what nobody reads, is cut off. */
const LINGER_MS = 1_000;

/** The request's own id, or one made here: as every answer has one. */
export function rawRequestId(request?: IncomingMessage): string {
  const given = request?.headersDistinct['x-request-id']?.join(', ');
  const headers = new Headers(given === undefined ? {} : { 'x-request-id': given });
  return requestIdOf(headers, (bytes) => crypto.getRandomValues(new Uint8Array(bytes)));
}

/** Writes a failure, as routes answer it, on a socket that no HTTP server answers or ends any more, and ends it. */
export function answerRaw(socket: Duplex, failure: Failure, requestId = rawRequestId()): void {
  const body = JSON.stringify(toProblem(failure, requestId));
  const { headers } = problemResponse(failure, requestId);
  const head = [
    `HTTP/1.1 ${failure.status} ${failure.title}`,
    'Connection: close',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
    ...[...headers].map(([name, value]) => `${name}: ${value}`),
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(timer));
}

/** What the HTTP server itself refuses, before there is a request: answered like everything else. */
export function answerClientErrors(server: Server): void {
  const answers = new WeakMap<Duplex, ServerResponse>();
  const refused = new WeakSet<Duplex>();
  server.on('request', ({ socket }, outgoing) => answers.set(socket, outgoing));
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    // The bytes that follow a fault are one too.
    if (refused.has(socket)) return;
    const answer = answers.get(socket);
    const begun = answer?.headersSent && !answer.writableFinished;
    if (!socket.writable || begun || error.code === 'ECONNRESET') {
      socket.destroy();
      return;
    }
    refused.add(socket);
    answerRaw(socket, refusalOf(error.code));
  });
}

function refusalOf(code: string | undefined): Failure {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new Failure('headers_too_large', 'The headers of the request are too large.');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new Failure('request_timeout', 'The request did not arrive in time; send it again.');
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new Failure('too_large', 'The extensions of a chunk are too large.');
    default:
      return notHttp();
  }
}

export function notHttp(): Failure {
  return new Failure('malformed_request', 'The request is not HTTP that can be read.');
}
