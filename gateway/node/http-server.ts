import { createServer, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { getRequestListener, type HttpBindings, RequestError } from '@hono/node-server';
import type { Gateway } from '../create-gateway.ts';
import { problemResponse, toFailure } from '../http/problem-response.ts';
import { watchConnections } from './connections.ts';
import { joinPieces } from './join-pieces.ts';
import { createLastAnswers } from './last-answers.ts';
import { answerClientErrors, notHttp, rawRequestId } from './raw-answer.ts';

/** A request's headers must be here within; a token has 8 KiB at most, other headers the rest. */
const HEADERS_TIMEOUT_MS = 15_000;
const MAX_HEADER_BYTES = 32_768;
/** A whole request, a large upload over a slow line among them. */
const REQUEST_TIMEOUT_MS = 600_000;
/** Longer than the idle time of usual load balancers, so that they close first. What clients are told. */
const KEEP_ALIVE_MS = 75_000;
/**
 * How much longer an idle connection is kept than was told: a gateway that had no turn for a while sees the time over
 * before it sees the request that came in time.
 */
const KEEP_ALIVE_SLACK_MS = 30_000;
/** An answer that is complete and that the client does not take. */
const ANSWER_STALL_MS = 60_000;
/**
 * On one connection. Node reads thousands of requests that come one behind the other before the first answer is taken,
 * and each answer waits in memory.
 */
const MAX_DUE_ANSWERS = 32;

export type HttpServer = {
  readonly server: Server;
  /** Every answer whose head has not been sent is the last on its connection. */
  leave(): void;
  /** Resolves when no answer is due any more. */
  answered(): Promise<void>;
  /** Connections on which nothing is asked end. */
  dismiss(): void;
  /** All connections end at once, upgraded ones too. */
  cut(): void;
};

/** What is asked before there is a gateway waits for it: its port is known before its keys are read. */
export function createHttpServer(opening: Promise<Gateway>): HttpServer {
  const answering = new Set<ServerResponse>();
  const lastAnswers = createLastAnswers(answering);
  const dueOn = new WeakMap<Duplex, number>();
  let leaving = false;
  let onAnswered = () => {};
  let gateway: Gateway | undefined;
  void opening.then((opened) => {
    gateway = opened;
  });
  const listener = getRequestListener(
    async (request, env) => {
      const { incoming, outgoing } = env as HttpBindings;
      if (incoming.headers.host === undefined && incoming.httpVersion !== '1.0')
        throw new RequestError('no Host');
      const current = gateway ?? (await opening);
      return current.fetch(request, { disconnect: () => outgoing.destroy() });
    },
    // HTTP/1.0 needs no Host, and balancers that ask for health in it send none.
    { hostname: 'localhost', errorHandler: answerThrown },
  );
  const server = createServer(
    {
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveTimeoutBuffer: KEEP_ALIVE_SLACK_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
      // Node's own refusal has no body.
      requireHostHeader: false,
      noDelay: true,
      // Clients that offer HTTP/2 (`Upgrade: h2c`, as Java's does by itself) are served as if they had not.
      shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
    },
    (incoming, outgoing) => {
      const { socket } = incoming;
      const due = (dueOn.get(socket) ?? 0) + 1;
      dueOn.set(socket, due);
      if (due > MAX_DUE_ANSWERS) {
        socket.destroy();
        return;
      }
      if (!lastAnswers.follow(outgoing)) {
        incoming.resume();
        return;
      }
      joinPieces(incoming);
      if (leaving) lastAnswers.end(outgoing);
      answering.add(outgoing);
      outgoing.once('prefinish', () => socket.setTimeout(ANSWER_STALL_MS));
      outgoing.once('close', () => {
        dueOn.set(socket, (dueOn.get(socket) ?? 0) - 1);
        answering.delete(outgoing);
        if (answering.size === 0) onAnswered();
      });
      void listener(incoming, outgoing);
    },
  );
  answerClientErrors(server);
  // What else than 100-continue a client expects may be passed over (RFC 9110 10.1.1). Node's own refusal has no body.
  server.on('checkExpectation', (incoming, outgoing) => server.emit('request', incoming, outgoing));
  return {
    server,
    ...watchConnections(server, answering),
    answered: () =>
      new Promise((resolve) => {
        onAnswered = resolve;
        if (answering.size === 0) resolve();
      }),
    leave() {
      leaving = true;
      // An answer that was told to keep its connection keeps it: cut, its caller's next request would be lost.
      for (const outgoing of answering) if (!outgoing.headersSent) lastAnswers.end(outgoing);
    },
  };
}

/** A request that cannot be made of what came, or whatever a gateway threw. */
function answerThrown(thrown: unknown): Response {
  const requestId = rawRequestId();
  const failure = thrown instanceof RequestError ? notHttp() : toFailure(thrown);
  return problemResponse(failure, requestId, { 'X-Request-Id': requestId });
}
