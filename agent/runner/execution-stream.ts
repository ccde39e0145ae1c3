import { Failure } from '../../shared/errors.ts';
import type { FrameFault } from '../../shared/frame.ts';
import { CHANNEL } from '../../shared/frame-type.ts';
import { MAX_RESULT_FILES, MAX_RESULT_FILES_BYTES, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { ExitBody, FileEnd } from '../../shared/messages.ts';
import { MAX_RESULT_DOCUMENT_BYTES } from '../../shared/result-api.ts';

export type OutputChannel = 1 | 2 | 3;

/** Of channel 3: all files that a runner collects, and a document of results. */
export const MAX_FILES_CHANNEL_BYTES = MAX_RESULT_FILES_BYTES + MAX_RESULT_DOCUMENT_BYTES;

/** What an execution tells its owner, in the order in which the runner said it. All are called synchronously. */
export type ExecutionHandlers = {
  /** User code begins. */
  started(): void;
  /** `bytes` is a view that nobody writes to again; keeping it keeps the chunk it came in. */
  data(channel: OutputChannel, offset: number, bytes: Uint8Array): void;
  /** The bytes of channel 3 since the last call were this file's. */
  fileEnd(file: FileEnd): void;
  /** The last call of an execution that ended. */
  exit(exit: ExitBody): void;
  /** Input may be written until this many bytes in all. */
  inputWindow(limit: number): void;
  /** On a stream that replaces another: so many bytes of input are there, and more may be written from here on. */
  inputResumed?(received: number): void;
  /** The last call of an execution whose stream was lost. `reason.started` is `yes` or `unknown`. */
  lost(reason: Failure): void;
};

/** Where an execution stands on its stream: what a new epoch needs to go on with it. */
export type Checkpoint = {
  streamId: number;
  started: boolean;
  offsets: Record<OutputChannel, number>;
  /** Output granted to the runner. */
  limit: number;
  inputOffset: number;
  inputLimit: number;
  /** The runner has not said yet what it has of the input: nothing may be written. */
  inputUnknown: boolean;
  /** Where the file that is under way began on channel 3, and how many came before it. */
  fileStart: number;
  files: number;
  maxOutputBytes: number;
  /** How many of the first files are documents of results. */
  documents: number;
};

/** A stream on which nothing has been said yet. */
export function freshCheckpoint(streamId: number, maxOutputBytes: number, documents = 0): Checkpoint {
  return {
    streamId,
    started: false,
    offsets: { 1: 0, 2: 0, 3: 0 },
    limit: STREAM_WINDOW_BYTES,
    inputOffset: 0,
    inputLimit: STREAM_WINDOW_BYTES,
    inputUnknown: false,
    fileStart: 0,
    files: 0,
    maxOutputBytes,
    documents,
  };
}

/** One execution's side of a runner's stream: checks what the sandbox says, then hands it on. */
export type ExecutionStream = {
  readonly at: Checkpoint;
  onStarted(): FrameFault | undefined;
  onData(channel: number, offset: number, body: Uint8Array): FrameFault | undefined;
  onEnd(channel: number, sequence: number, file: FileEnd): FrameFault | undefined;
  onWindow(limit: number, received: number | undefined): FrameFault | undefined;
  onExit(exit: ExitBody): FrameFault | undefined;
  lost(reason: Failure): void;
};

/** `maxFiles`: files that the runner was told to collect at most. */
export function createExecutionStream(
  checkpoint: Checkpoint,
  handlers: ExecutionHandlers,
  maxFiles: number = MAX_RESULT_FILES,
): ExecutionStream {
  const at: Checkpoint = { ...checkpoint, offsets: { ...checkpoint.offsets } };

  function onStarted(): FrameFault | undefined {
    if (at.started) return broken('STARTED came twice');
    at.started = true;
    handlers.started();
    return undefined;
  }

  function onData(channel: number, offset: number, body: Uint8Array): FrameFault | undefined {
    if (!isOutput(channel)) return broken(`DATA on channel ${channel}`);
    if (!at.started) return broken('DATA before STARTED');
    if (offset !== at.offsets[channel]) {
      return broken(`DATA at offset ${offset} of channel ${channel}, which is at ${at.offsets[channel]}`);
    }
    const next = offset + body.byteLength;
    if (channel !== CHANNEL.files && next > at.maxOutputBytes)
      return broken('more output than was asked for');
    if (next > MAX_FILES_CHANNEL_BYTES && channel === CHANNEL.files)
      return broken('more bytes of files than were asked for');
    if (at.offsets[1] + at.offsets[2] + at.offsets[3] + body.byteLength > at.limit) {
      return broken('more DATA than the window allows');
    }
    at.offsets[channel] = next;
    handlers.data(channel, offset, body);
    return undefined;
  }

  function onEnd(channel: number, sequence: number, file: FileEnd): FrameFault | undefined {
    if (channel !== CHANNEL.files) return broken(`END on channel ${channel}`);
    if (!at.started) return broken('END before STARTED');
    if (sequence !== at.offsets[3]) return broken('END does not stand at the end of its channel');
    if (file.size !== at.offsets[3] - at.fileStart) return broken('END names another size than was sent');
    if (at.files >= maxFiles + at.documents) return broken('more files than were asked for');
    at.files += 1;
    at.fileStart = at.offsets[3];
    handlers.fileEnd(file);
    return undefined;
  }

  function onWindow(limit: number, received: number | undefined): FrameFault | undefined {
    if (limit < at.inputLimit) return broken('a window fell');
    // Each is a sign of life: one that says nothing new would be one for ever.
    if (limit === at.inputLimit && received === undefined) return broken('a window that does not rise');
    if (received !== undefined && (!at.inputUnknown || received > at.inputOffset))
      return broken('more input was received than was sent');
    if (limit > at.inputOffset + STREAM_WINDOW_BYTES)
      return broken('a window for bytes that were never taken');
    at.inputLimit = limit;
    if (received !== undefined) {
      at.inputOffset = received;
      at.inputUnknown = false;
    }
    // Who knows of the window alone would go on where the stream before was.
    if (received !== undefined) handlers.inputResumed?.(received);
    handlers.inputWindow(limit);
    return undefined;
  }

  function onExit(exit: ExitBody): FrameFault | undefined {
    const contradiction = exitContradiction(exit, at);
    if (contradiction) return broken(contradiction);
    handlers.exit(exit);
    return undefined;
  }

  function lost(reason: Failure): void {
    const started = at.started ? 'yes' : 'unknown';
    handlers.lost(new Failure(reason.code, reason.detail, { cause: reason.cause, started }));
  }

  return { at, onStarted, onData, onEnd, onWindow, onExit, lost };
}

/** What an EXIT says against itself or against what came before it. A result is never a guess: such a one is none. */
function exitContradiction({ result, failure }: ExitBody, at: Checkpoint): string | undefined {
  // What was lost or cancelled may end there.
  const isWhole = result !== null && result.outcome !== 'cancelled';
  if (isWhole && at.fileStart !== at.offsets[3]) return 'EXIT inside a file';
  if (failure) return failure.started === 'no' && at.started ? 'EXIT denies STARTED' : undefined;
  if (!at.started) return 'a result without STARTED';
  if (result.timed_out !== (result.outcome === 'timed_out')) return 'timed_out is not the outcome';
  const codeless = result.outcome === 'timed_out' || result.outcome === 'cancelled';
  if (codeless !== (result.exit_code === null)) return 'exit_code does not go with the outcome';
  for (const [channel, bytes, truncated] of [
    [1, result.stdout_bytes, result.stdout_truncated],
    [2, result.stderr_bytes, result.stderr_truncated],
  ] as const) {
    if (bytes < at.offsets[channel] || (!truncated && bytes !== at.offsets[channel])) {
      return `EXIT counts ${bytes} bytes on channel ${channel} of which ${at.offsets[channel]} came`;
    }
  }
  return undefined;
}

function isOutput(channel: number): channel is OutputChannel {
  return channel === 1 || channel === 2 || channel === 3;
}

function broken(detail: string): FrameFault {
  return { code: 'protocol_error', detail };
}
