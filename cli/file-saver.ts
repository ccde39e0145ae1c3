import { PodgateError } from '../client/podgate-error.ts';
import { describeError } from './describe-error.ts';
import { type Io, printable, UsageError, write } from './io.ts';
import { type SavedFiles, saveFile } from './save-files.ts';

/** Saves the files of one execution below a folder, each whether or not another could be. */
export type FileSaver = {
  /** Says that it is saved, or remembers why not. Throws only where no other could be saved either. */
  save(path: string, open: () => Promise<ReadableStream<Uint8Array>>): Promise<void>;
  /** Says what was not saved; whether all was. */
  end(): Promise<boolean>;
};

export function createFileSaver(folder: string, io: Io): FileSaver {
  const saved: SavedFiles = new Set();
  const faults: string[] = [];
  return {
    async save(path, open) {
      try {
        const body = await open();
        await saveFile(folder, path, body, saved).catch(async (error: unknown) => {
          await body.cancel().catch(() => {});
          throw error;
        });
      } catch (error) {
        const isLost = error instanceof PodgateError && error.status === null;
        if (io.signal.aborted || isLost) throw error;
        const why = describeError(error);
        faults.push(error instanceof UsageError ? why : `${printable(path)} was not saved: ${why}`);
        return;
      }
      await write(io.stderr, `podgate: saved ${printable(path)}\n`);
    },
    async end() {
      for (const fault of faults) await write(io.stderr, `podgate: ${fault}\n`);
      return faults.length === 0;
    },
  };
}
