import type { Frame, FrameFault } from './frame.ts';
import { TYPE } from './frame-type.ts';
import { LINK_WINDOW_BYTES, MAX_CONTROL_BYTES, MAX_DATA_BYTES, STREAM_WINDOW_BYTES } from './limits.ts';

type Stream = {
  offsets: [number, number, number, number];
  received: number;
  consumed: number;
  limit: number;
};

export type InboxOptions = {
  streamWindow?: number;
  linkWindow?: number;
  /** Channels that the peer may send DATA on. */
  channels: readonly number[];
  /** Whether the peer opens streams: START, ATTACH and INPUT then come with an id one higher than any before. */
  peerOpens: boolean;
};

/** What opens a stream. */
const OPENS: ReadonlySet<number> = new Set([TYPE.START, TYPE.ATTACH, TYPE.INPUT]);

export type Verdict = 'deliver' | 'drop' | FrameFault;

const fault = (detail: string): FrameFault => ({ code: 'protocol_error', detail });

/**
 * Checks what a peer sends against sections 2.3, 2.4 and 6 of shared/protocol.md, and says when to raise its windows.
 * Pure state. Bodies of control frames are checked by their schemas, not here.
 */
export class Inbox {
  #counter = 0;
  #highest = 0;
  readonly #streams = new Map<number, Stream>();
  #linkReceived = 0;
  #linkLimit: number;
  readonly #linkWindow: number;
  readonly #streamWindow: number;
  readonly #channels: ReadonlySet<number>;
  readonly #peerOpens: boolean;

  constructor(options: InboxOptions) {
    this.#streamWindow = options.streamWindow ?? STREAM_WINDOW_BYTES;
    this.#linkWindow = options.linkWindow ?? LINK_WINDOW_BYTES;
    this.#linkLimit = this.#linkWindow;
    this.#channels = new Set(options.channels);
    this.#peerOpens = options.peerOpens;
  }

  /** Opens a stream for receiving. `offsets` continue channels 0…3; `pending` bytes before them have not been taken yet. */
  open(stream: number, offsets: readonly [number, number, number, number] = [0, 0, 0, 0], pending = 0): void {
    this.#highest = Math.max(this.#highest, stream);
    this.#streams.set(stream, {
      offsets: [...offsets],
      received: pending,
      consumed: 0,
      limit: this.#streamWindow,
    });
  }

  /** Frames that still come for a closed stream are dropped. */
  close(stream: number): void {
    this.#streams.delete(stream);
  }

  has(stream: number): boolean {
    return this.#streams.has(stream);
  }

  /** Judges one frame, in order of arrival. */
  accept(frame: Frame): Verdict {
    if (frame.type === TYPE.DATA) return this.#acceptData(frame);
    if (frame.body.byteLength > MAX_CONTROL_BYTES)
      return {
        code: 'too_large',
        detail: `control frame of ${frame.body.byteLength} bytes is over ${MAX_CONTROL_BYTES}`,
      };
    if (frame.type === TYPE.END) return this.#acceptEnd(frame);
    this.#counter += 1;
    if (frame.sequence !== this.#counter)
      return fault(`control frame ${frame.sequence} came where ${this.#counter} was due`);
    if (frame.channel !== 0) return fault('a control frame names a channel');
    if (frame.stream === 0) return 'deliver';
    // From who opens none INPUT is the last word on a stream.
    if (OPENS.has(frame.type) && (this.#peerOpens || frame.type !== TYPE.INPUT)) {
      if (!this.#peerOpens || frame.stream !== this.#highest + 1)
        return fault(`stream ${frame.stream} cannot be opened here`);
      return 'deliver';
    }
    return this.#known(frame.stream);
  }

  /**
   * The consumer took `bytes` of a stream. Returns the limit to send in a WINDOW, or undefined while half the window
   * or more is still open: a WINDOW per frame would double the frames.
   */
  consumed(stream: number, bytes: number): number | undefined {
    const state = this.#streams.get(stream);
    if (!state) return undefined;
    state.consumed += bytes;
    const limit = state.consumed + this.#streamWindow;
    if (limit - state.limit < this.#streamWindow / 2) return undefined;
    state.limit = limit;
    return limit;
  }

  /** A DATA body has left the socket. Returns the link limit to send, in steps of a quarter of what may be in flight. */
  taken(stepBytes: number): number | undefined {
    const limit = this.#linkReceived + this.#linkWindow;
    if (limit - this.#linkLimit < stepBytes) return undefined;
    this.#linkLimit = limit;
    return limit;
  }

  /** The peer cannot send `from` to `to` of a channel any more. False where the channel does not stand at `from`. */
  skip(stream: number, channel: number, from: number, to: number): boolean {
    const state = this.#streams.get(stream);
    if (!state) return true;
    if (!this.#channels.has(channel) || state.offsets[channel as 1 | 2 | 3] !== from || to <= from)
      return false;
    state.offsets[channel as 1 | 2 | 3] = to;
    return true;
  }

  #known(stream: number): Verdict {
    if (this.#streams.has(stream)) return 'deliver';
    return stream <= this.#highest ? 'drop' : fault(`stream ${stream} was never opened`);
  }

  #acceptData(frame: Frame): Verdict {
    const size = frame.body.byteLength;
    if (size === 0) return fault('DATA without bytes');
    if (size > MAX_DATA_BYTES)
      return { code: 'too_large', detail: `DATA of ${size} bytes is over ${MAX_DATA_BYTES}` };
    if (frame.stream === 0) return fault('DATA on the link itself');
    if (!this.#channels.has(frame.channel)) return fault(`DATA on channel ${frame.channel}`);
    this.#linkReceived += size;
    if (this.#linkReceived > this.#linkLimit) return fault('DATA over the link credit');
    const state = this.#streams.get(frame.stream);
    if (!state) return this.#known(frame.stream);
    const channel = frame.channel as 0 | 1 | 2 | 3;
    if (frame.sequence !== state.offsets[channel])
      return fault(
        `DATA at ${frame.sequence} of channel ${channel} came where ${state.offsets[channel]} was due`,
      );
    state.received += size;
    if (state.received > state.limit) return fault('DATA over the stream credit');
    state.offsets[channel] += size;
    return 'deliver';
  }

  #acceptEnd(frame: Frame): Verdict {
    const state = this.#streams.get(frame.stream);
    if (!state) return frame.stream === 0 ? fault('END on the link itself') : this.#known(frame.stream);
    if (!this.#channels.has(frame.channel)) return fault(`END on channel ${frame.channel}`);
    if (frame.sequence !== state.offsets[frame.channel as 0 | 1 | 2 | 3])
      return fault(`END at ${frame.sequence} of channel ${frame.channel} is not its length`);
    return 'deliver';
  }
}
