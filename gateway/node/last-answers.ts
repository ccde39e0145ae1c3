import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

/** Which answer is the last on its connection: that to the newest of the requests that a client sends one behind the other. */
export type LastAnswers = {
  /** A request has come. False where the answer before it was told to be the last: nobody hears what becomes of this one. */
  follow(outgoing: ServerResponse): boolean;
  /** Its connection ends with it, unless another request comes before its head is sent. */
  end(outgoing: ServerResponse): void;
};

/** `answering`: what is due. */
export function createLastAnswers(answering: ReadonlySet<ServerResponse>): LastAnswers {
  const newest = new WeakMap<Duplex, ServerResponse>();
  const ended = new WeakSet<ServerResponse>();
  return {
    follow(outgoing) {
      const { socket } = outgoing.req;
      const before = newest.get(socket);
      if (before && answering.has(before)) {
        if (before.headersSent && !before.shouldKeepAlive) return false;
        if (ended.delete(before)) before.shouldKeepAlive = true;
      }
      newest.set(socket, outgoing);
      return true;
    },
    end(outgoing) {
      // Without one it ends as the client asked.
      if (newest.get(outgoing.req.socket) !== outgoing || !outgoing.shouldKeepAlive) return;
      outgoing.shouldKeepAlive = false;
      ended.add(outgoing);
    },
  };
}
