import type { FileStoreLimits } from '../../gateway/files/file-ledger.ts';
import { type Blobs, IndexedFileStore } from '../../gateway/files/indexed-file-store.ts';

/** A file store that keeps bytes in memory. Passes test/contract/file-store.ts. */
export function createMemoryFileStore(limits: FileStoreLimits, now: () => number): IndexedFileStore {
  return new IndexedFileStore({ blobs: createMemoryBlobs(), limits, now });
}

function createMemoryBlobs(): Blobs {
  const files = new Map<string, Uint8Array<ArrayBuffer>[]>();
  return {
    async begin({ principal }, id) {
      const chunks: Uint8Array<ArrayBuffer>[] = [];
      return {
        append: async (chunk) => void chunks.push(chunk.slice()),
        publish: async () => void files.set(`${principal}/${id}`, chunks),
        discard: async () => void chunks.splice(0),
      };
    },
    async open(principal, meta, signal) {
      const chunks = files.get(`${principal}/${meta.file_id}`);
      if (chunks === undefined) return undefined;
      let next = 0;
      return new ReadableStream({
        pull(controller) {
          if (signal?.aborted) return controller.error(signal.reason);
          const chunk = chunks[next++];
          if (chunk === undefined) controller.close();
          else if (chunk.byteLength > 0) controller.enqueue(chunk.slice());
        },
      });
    },
    async remove(principal, id) {
      files.delete(`${principal}/${id}`);
    },
  };
}
