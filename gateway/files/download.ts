import { Failure } from '../../shared/errors.ts';
import type { Timers } from '../gateway-deps.ts';
import type { RequestInfo } from '../http/route.ts';

type Bytes = Uint8Array<ArrayBuffer>;

/** A file that is being read keeps its room on the disk, also when it is deleted or expires: who takes nothing is let go. */
export const DOWNLOAD_STALL_MS = 60_000;

export type DownloadOptions = {
  /** Says when its reader may have no more. Returns how to stop watching. */
  watch: (denied: (failure: Error) => void) => () => void;
  timers: Timers;
  /** Without it the stream fails, which a server logs. */
  disconnect?: RequestInfo['disconnect'];
};

/** A stored file on its way to its reader, read as fast as that takes it. */
export function downloadOf(
  body: ReadableStream<Bytes>,
  { watch, timers, disconnect }: DownloadOptions,
): ReadableStream<Bytes> {
  const source = body.getReader();
  let unwatch: () => void = () => {};
  let stall: unknown;
  const end = () => {
    timers.clearTimeout(stall);
    unwatch();
  };
  const breakOff = (controller: ReadableStreamDefaultController<Bytes>, failure: Error) => {
    end();
    void source.cancel().catch(() => {});
    if (disconnect) disconnect();
    else controller.error(failure);
  };
  const awaitReader = (controller: ReadableStreamDefaultController<Bytes>) => {
    const failure = () => new Failure('reader_stalled', 'The reader took nothing for too long.');
    stall = timers.setTimeout(() => breakOff(controller, failure()), DOWNLOAD_STALL_MS);
  };
  return new ReadableStream(
    {
      start(controller) {
        unwatch = watch((failure) => breakOff(controller, failure));
        awaitReader(controller);
      },
      async pull(controller) {
        timers.clearTimeout(stall);
        try {
          const { done, value } = await source.read();
          if (!done) {
            controller.enqueue(value);
            return awaitReader(controller);
          }
          end();
          controller.close();
        } catch (error) {
          end();
          throw error;
        }
      },
      cancel(reason) {
        end();
        return source.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}
