import { Failure } from '../../shared/errors.ts';
import type { FileReservation } from './file-ledger.ts';
import type { FileMeta, FileWriter } from './file-store.ts';

/** Where the bytes of one file go. The writer above it calls one method at a time and `discard` at most once. */
export type FileSink = {
  append(chunk: Uint8Array): Promise<void>;
  /** Makes the file visible, whole, in one step. */
  publish(meta: FileMeta): Promise<void>;
  discard(): Promise<void>;
};

export type ReservedWriterDeps = {
  id: string;
  sink: FileSink;
  reservation: FileReservation;
  /** Takes room, making some where there is none. */
  inRoom(take: () => void): Promise<void>;
  now: () => number;
  signal?: AbortSignal | undefined;
  onEnd?: (() => void) | undefined;
};

/** The FileWriter over a sink: reserves before it stores, and gives everything back at the first failure. */
export class ReservedWriter implements FileWriter {
  readonly #deps: ReservedWriterDeps;
  readonly #onAbort = () => void this.abort().catch(() => {});
  #running: Promise<unknown> | undefined;
  #failure: unknown;
  #ended = false;

  constructor(deps: ReservedWriterDeps) {
    this.#deps = deps;
    deps.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (deps.signal?.aborted) this.#onAbort();
  }

  write(chunk: Uint8Array): Promise<void> {
    const { reservation, sink, inRoom } = this.#deps;
    return this.#exclusively(async () => {
      await inRoom(() => reservation.grow(chunk.byteLength));
      await sink.append(chunk);
    });
  }

  commit({ filename }: { filename: string }): Promise<FileMeta> {
    const { id, sink, reservation, now } = this.#deps;
    return this.#exclusively(async () => {
      const meta = { file_id: id, filename, size_bytes: reservation.bytes, upload_time: now() / 1000 };
      await sink.publish(meta);
      reservation.settle(meta);
      this.#end();
      this.#deps.onEnd?.();
      return meta;
    });
  }

  async abort(): Promise<void> {
    if (!this.#ended) this.#failure ??= new Failure('cancelled', 'The upload was aborted');
    await this.#running?.catch(() => {});
    await this.#giveBack();
  }

  async #exclusively<Result>(task: () => Promise<Result>): Promise<Result> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#ended) throw new Error('the file is committed already');
    if (this.#running !== undefined) throw new Error('the writer takes one call at a time');
    const running = task();
    this.#running = running;
    try {
      return await running;
    } catch (failure) {
      this.#failure ??= failure;
      await this.#giveBack();
      throw failure;
    } finally {
      this.#running = undefined;
    }
  }

  async #giveBack(): Promise<void> {
    if (this.#ended) return;
    this.#end();
    try {
      await this.#deps.sink.discard();
    } finally {
      this.#deps.reservation.release();
      this.#deps.onEnd?.();
    }
  }

  #end(): void {
    this.#ended = true;
    this.#deps.signal?.removeEventListener('abort', this.#onAbort);
  }
}
