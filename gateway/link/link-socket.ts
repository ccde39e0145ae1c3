import type { ErrorCode } from '../../shared/errors.ts';

/** A WebSocket that an adapter has accepted, as the gateway's core sees it. */
export type LinkSocketPort = {
  /** `sent` runs when the message has left the process, or can no longer. */
  send(message: Uint8Array<ArrayBuffer>, sent: () => void): void;
  /** Ends the connection with a closing handshake. */
  close(code: number, reason: string): void;
  /** Ends the connection at once: its peer does not answer. */
  terminate(): void;
};

/** What an adapter calls. A text message comes as a string. */
export type LinkHandlers = {
  message(data: Uint8Array | string): void;
  closed(): void;
};

/** The same of a link that a gateway has taken in. */
export type AcceptedLink = LinkHandlers & {
  /** WELCOME is out: messages may be larger than HELLO. */
  readonly joined: boolean;
  close(code: ErrorCode): void;
};
