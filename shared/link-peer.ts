import type * as z from 'zod';
import { decodeControl, EMPTY_BODY, encodeBody, type Received } from './control.ts';
import { Flight } from './flight.ts';
import { decodeFrame, encodeFrame, type Frame, type FrameFault, isFault } from './frame.ts';
import { TYPE, type TypeName } from './frame-type.ts';
import { Inbox } from './inbox.ts';
import { LINK_ACK_BYTES, MAX_HELLO_BYTES, MAX_MESSAGE_BYTES } from './limits.ts';
import { Outbox } from './outbox.ts';

/** The least a WebSocket must do. `sent` runs when the message has left the process, or can no longer. */
export type LinkSocket = { send(message: Uint8Array<ArrayBuffer>, sent: () => void): void };

export type PeerHandlers<Schemas extends Record<string, z.ZodType>> = {
  /** Every control frame but WINDOW, checked. END comes here too, with its channel. */
  control(message: Received<Schemas>, stream: number, channel: number): void;
  data(stream: number, channel: number, offset: number, bytes: Uint8Array): void;
  /** The peer raised a stream's window: `outbox.room` is larger now. */
  room?(stream: number): void;
  /** EXIT has left: nothing more is said on the stream. */
  gone?(stream: number): void;
  /** The peer broke the protocol. Nothing is delivered after this; the owner closes the socket with the code. */
  fault(fault: FrameFault): void;
};

export type LinkPeerOptions<Schemas extends Record<string, z.ZodType>> = {
  socket: LinkSocket;
  /** Control bodies that the other side may send: FROM_AGENT at the gateway, FROM_GATEWAY at the agent. */
  schemas: Schemas;
  handlers: PeerHandlers<Schemas>;
  /** DATA channels that the other side may use. */
  channels: readonly number[];
  /** True at the agent: the gateway opens streams. */
  peerOpens: boolean;
  /** Milliseconds that only go forward, with fractions. */
  now: () => number;
};

type Gap = { channel: number; from: number; to: number };

/** Message bytes handed to the socket and not yet gone: enough to keep it busy, little for control to wait behind. */
const SOCKET_HIGH_WATER_BYTES = 131_072;

/**
 * One end of a link: frames, credits and schemas over a socket that somebody else owns. It has no timers and knows no
 * message's meaning; handshake, heartbeat and streams are its owner's.
 */
export class LinkPeer<Schemas extends Record<string, z.ZodType>> {
  readonly outbox = new Outbox();
  readonly inbox: Inbox;
  readonly #flight = new Flight();
  readonly #options: LinkPeerOptions<Schemas>;
  #inSocket = 0;
  #pumping = false;
  #broken = false;
  /** False until WELCOME: messages are held to MAX_HELLO_BYTES. */
  joined = false;

  constructor(options: LinkPeerOptions<Schemas>) {
    this.#options = options;
    this.inbox = new Inbox({ channels: options.channels, peerOpens: options.peerOpens });
  }

  /** Takes one WebSocket message. Never throws for what a peer sends. */
  receive(message: Uint8Array): void {
    if (this.#broken) return;
    const max = this.joined ? MAX_MESSAGE_BYTES : MAX_HELLO_BYTES;
    const oversize: FrameFault = {
      code: 'too_large',
      detail: `message of ${message.byteLength} bytes is over ${max}`,
    };
    const frame = message.byteLength > max ? oversize : decodeFrame(message);
    if (isFault(frame)) {
      this.#fault(frame);
      return;
    }
    const verdict = this.inbox.accept(frame);
    if (typeof verdict === 'object') {
      this.#fault(verdict);
      return;
    }
    if (frame.type === TYPE.DATA) this.#acknowledge();
    // A stream on which nothing more is received may have much to send, for which its reader gives credit.
    if (verdict === 'drop' && frame.type !== TYPE.WINDOW) return;
    if (frame.type === TYPE.DATA) {
      this.#options.handlers.data(frame.stream, frame.channel, frame.sequence, frame.body);
    } else {
      this.#receiveControl(frame);
    }
  }

  /** Sends a control frame before all data. */
  control(name: TypeName, stream: number, body?: object): void {
    this.outbox.control(TYPE[name], stream, body ? encodeBody(body) : EMPTY_BODY);
    this.pump();
  }

  /** Sends END or EXIT behind the data its stream has queued. */
  behind(name: TypeName, stream: number, channel: 0 | 1 | 2 | 3, body?: object): void {
    this.outbox.behind(stream, TYPE[name], channel, body ? encodeBody(body) : EMPTY_BODY);
    this.pump();
  }

  data(stream: number, channel: 0 | 1 | 2 | 3, bytes: Uint8Array): void {
    this.outbox.data(stream, channel, bytes);
    this.pump();
  }

  /** Says that bytes of a channel are lost; what is sent next on it begins at `to`. */
  gap(stream: number, channel: 1 | 2 | 3, from: number, to: number): void {
    this.outbox.gap(stream, channel, to, encodeBody({ channel, from, to }));
    this.pump();
  }

  /** The consumer of a stream took bytes: raises its window when that is due. */
  consumed(stream: number, bytes: number): void {
    const limit = this.inbox.consumed(stream, bytes);
    if (limit !== undefined) this.control('WINDOW', stream, { limit });
  }

  /** Opens a stream in both directions. */
  open(stream: number): void {
    this.outbox.open(stream);
    this.inbox.open(stream);
  }

  /** Opens a stream on which channels 1 to 3 go on at `at`, in the direction of output; `pending` as `ATTACH` has it. */
  reopen(stream: number, at: Readonly<Record<1 | 2 | 3, number>>, pending: number): void {
    const offsets = [0, at[1], at[2], at[3]] as const;
    const { peerOpens } = this.#options;
    this.outbox.open(stream, offsets, peerOpens ? pending : 0);
    this.inbox.open(stream, offsets, peerOpens ? 0 : pending);
  }

  /** Ends receiving on a stream at once; what it has queued to send still goes unless `discard`. */
  close(stream: number, discard: boolean): void {
    this.inbox.close(stream);
    if (discard) this.outbox.close(stream);
  }

  /** Moves frames to the socket while it takes them. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      this.#send();
    } finally {
      this.#pumping = false;
    }
  }

  #send(): void {
    while (this.#inSocket < SOCKET_HIGH_WATER_BYTES && !this.#broken) {
      const frame = this.outbox.next();
      if (!frame) break;
      if (frame.type === TYPE.DATA)
        this.#flight.sent(this.outbox.linkSent, this.outbox.linkTaken, this.#options.now());
      const message = encodeFrame(frame);
      const size = message.byteLength;
      this.#inSocket += size;
      this.#options.socket.send(message, () => {
        const full = this.#inSocket >= SOCKET_HIGH_WATER_BYTES;
        this.#inSocket -= size;
        if (full) this.pump();
      });
      if (frame.type === TYPE.EXIT) this.#options.handlers.gone?.(frame.stream);
    }
  }

  #receiveControl(frame: Frame): void {
    const control = decodeControl(this.#options.schemas, frame.type, frame.body);
    if ('code' in control) this.#fault(control);
    else if (control.name === 'REPLAY_GAP' && !this.#skip(frame.stream, control.body as Gap))
      this.#fault({ code: 'protocol_error', detail: 'REPLAY_GAP does not begin where its channel stands' });
    else if (control.name === 'WINDOW') this.#window(frame.stream, (control.body as { limit: number }).limit);
    else this.#options.handlers.control(control, frame.stream, frame.channel);
  }

  #skip(stream: number, { channel, from, to }: Gap): boolean {
    return this.inbox.skip(stream, channel, from, to);
  }

  #acknowledge(): void {
    const limit = this.inbox.taken(LINK_ACK_BYTES);
    if (limit !== undefined) this.control('WINDOW', 0, { limit });
  }

  #window(stream: number, limit: number): void {
    const held = stream === 0 && this.outbox.held;
    const rises = stream === 0 ? this.outbox.grantLink(limit) : this.outbox.grant(stream, limit);
    if (!rises) {
      this.#fault({
        code: 'protocol_error',
        detail: 'WINDOW falls or acknowledges what was not sent',
      });
      return;
    }
    if (stream === 0) {
      this.#flight.taken(this.outbox.linkTaken, this.#options.now(), held);
      this.outbox.setInFlight(this.#flight.window);
    }
    this.pump();
    if (stream !== 0) this.#options.handlers.room?.(stream);
  }

  #fault(fault: FrameFault): void {
    this.#broken = true;
    this.#options.handlers.fault(fault);
  }
}
