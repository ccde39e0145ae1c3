import type { Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Failure, toProblem } from '../../shared/errors.ts';

/** A client that goes on sending what nobody reads is cut off. */
const LINGER_MS = 1_000;

/** Writes a failure as problem+json on a socket that no HTTP server answers any more, and ends it. */
export function answerRaw(socket: Duplex, failure: Failure): void {
  const body = JSON.stringify(toProblem(failure, ''));
  const head = [
    `HTTP/1.1 ${failure.status} ${failure.title}`,
    'Connection: close',
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(failure.retryAfterMs ? [`Retry-After: ${Math.ceil(failure.retryAfterMs / 1_000)}`] : []),
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
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
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once('close', () => clearTimeout(timer));
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
      return new Failure('malformed_request', 'The request is not HTTP that can be read.');
  }
}
