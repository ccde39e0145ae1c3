import { EMPTY_BODY } from '../../shared/control.ts';
import { CHANNEL, TYPE } from '../../shared/frame-type.ts';
import { MAX_DATA_BYTES } from '../../shared/limits.ts';
import type { Checkpoint, ExecutionStream } from './execution-stream.ts';
import type { FrameWriter } from './frame-stream.ts';

export type RunnerExecution = {
  /**
   * Sends the next bytes of the input channel. The caller honours `inputWindow` (262,144 bytes to begin with): past it
   * this throws RangeError. `bytes` must not change afterwards. Without effect once the stream is lost.
   */
  write(bytes: Uint8Array): void;
  /** Behind what was written: no more input comes. */
  endInput(): void;
  /** Of a terminal. */
  resize(rows: number, columns: number): void;
  /** Lets the runner send output until this many bytes over channels 1 to 3. Never falls. */
  window(limit: number): void;
  /** Asks for the end; `exit` comes all the same. */
  cancel(reason: string): void;
  /** To the program that runs. Without effect once the stream is lost. */
  signal(number: number): void;
  /** Where it stands now: after `lost`, what the next epoch resumes from. */
  checkpoint(): Checkpoint;
};

/** What the agent sends of one execution. `over`: the stream is lost, or the execution has ended. */
export function createRunnerExecution(
  { at }: ExecutionStream,
  writer: FrameWriter,
  control: (type: number, streamId: number, body: unknown) => void,
  over: () => boolean,
): RunnerExecution {
  const { streamId } = at;
  return {
    write(bytes) {
      if (at.inputUnknown) return;
      if (at.inputOffset + bytes.byteLength > at.inputLimit)
        throw new RangeError('write is past the input window');
      for (let from = 0; from < bytes.byteLength && !over(); from += MAX_DATA_BYTES) {
        const body = bytes.subarray(from, from + MAX_DATA_BYTES);
        writer.send({
          type: TYPE.DATA,
          channel: CHANNEL.input,
          stream: streamId,
          sequence: at.inputOffset,
          body,
        });
        at.inputOffset += body.byteLength;
      }
    },
    endInput() {
      if (over() || at.inputUnknown) return;
      writer.send({
        type: TYPE.END,
        channel: CHANNEL.input,
        stream: streamId,
        sequence: at.inputOffset,
        body: EMPTY_BODY,
      });
    },
    resize(rows, columns) {
      if (!over()) control(TYPE.RESIZE, streamId, { rows, columns });
    },
    window(limit) {
      if (limit <= at.limit || over()) return;
      at.limit = limit;
      control(TYPE.WINDOW, streamId, { limit });
    },
    cancel(why) {
      if (!over()) control(TYPE.CANCEL, streamId, { reason: why });
    },
    signal(number) {
      if (!over()) control(TYPE.SIGNAL, streamId, { signal: number });
    },
    checkpoint: () => ({ ...at, offsets: { ...at.offsets } }),
  };
}
