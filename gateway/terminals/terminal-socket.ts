/** The WebSocket of somebody who looks at a terminal, as the gateway's core sees it. */
export type TerminalSocketPort = {
  /** Text as a text message, bytes as a binary one. */
  send(message: string | Uint8Array): void;
  /** Takes no more messages from the peer until `go`. */
  hold(): void;
  go(): void;
  /** Ends the connection with a closing handshake. */
  close(code: number, reason: string): void;
};

/** What an adapter calls. A text message comes as a string. */
export type TerminalHandlers = {
  message(data: Uint8Array | string): void;
  closed(): void;
};

/** A terminal that waits for its WebSocket. One of the two is called, once. */
export type OpenedTerminal = {
  take(socket: TerminalSocketPort): TerminalHandlers;
  /** The peer went away before. */
  drop(): void;
};
