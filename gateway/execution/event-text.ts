import type { ReceivedBytes } from './check-exit.ts';
import { createTextPieces, createTextStream } from './output-text.ts';

export type StreamName = 'stdout' | 'stderr';

/** Output as text for one reader of server-sent events. */
export type EventText = {
  /** Text that the reader may have now: without the half of a character, which waits for the other. */
  push(stream: StreamName, bytes: Uint8Array): string;
  /** What waits of a stream that goes on elsewhere, or not at all. */
  end(stream: StreamName): string;
  /** The stream goes on at this byte. */
  skipTo(stream: StreamName, offset: number): void;
  /** Where the reader stands with what it was given last; undefined where nobody counts. */
  readonly id: string | undefined;
};

export function createEventText(): EventText {
  const texts = { stdout: createTextStream(), stderr: createTextStream() };
  return {
    push: (stream, bytes) => texts[stream].push(bytes),
    end: (stream) => texts[stream].end(),
    skipTo() {},
    id: undefined,
  };
}

/** With ids, `stdout.stderr` in bytes: counted from what the reader has already. */
export function createNumberedText(from: ReceivedBytes): EventText {
  const texts = { stdout: createTextPieces(), stderr: createTextPieces() };
  const at = { ...from };
  return {
    push(stream, bytes) {
      at[stream] += bytes.byteLength;
      return texts[stream].push(bytes);
    },
    end: (stream) => texts[stream].end(),
    skipTo(stream, offset) {
      at[stream] = offset;
    },
    get id() {
      return `${at.stdout - texts.stdout.held}.${at.stderr - texts.stderr.held}`;
    },
  };
}

/** What an id says that its reader has: bytes of stdout and of stderr. Null where it is no id of ours. */
export function readEventId(id: string): ReceivedBytes | null {
  const [, stdout, stderr] = /^(\d{1,15})\.(\d{1,15})$/.exec(id) ?? [];
  return stdout === undefined ? null : { stdout: Number(stdout), stderr: Number(stderr) };
}
