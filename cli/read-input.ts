import { constants, createReadStream, fstatSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { addAbortSignal, type Readable } from 'node:stream';
import { isatty, ReadStream } from 'node:tty';
import { UsageError } from './io.ts';

export type ReadOptions = {
  /** What an error calls it. */
  name: string;
  /** More is refused, and not read to its end. */
  maxBytes: number;
  signal: AbortSignal;
};

/** All that a stream has to give. Whoever interrupts the command does not wait for its end. */
export async function readInput(stream: Readable, { name, maxBytes, signal }: ReadOptions): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of addAbortSignal(signal, stream)) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw new UsageError(`${name} is too long: more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The same of a file, which may be a FIFO or a terminal. */
export async function readInputFile(path: string, options: ReadOptions): Promise<Buffer> {
  try {
    return await readInput(openInput(path), options);
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new UsageError(`cannot read ${options.name}: ${(cause as Error).message}`);
  }
}

/** A read that waits in the thread pool, as for a FIFO's writer, cannot be given up and keeps the process from ending. */
function openInput(path: string): Readable {
  // Windows has no such flag.
  const fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  if (isatty(fd)) return new ReadStream(fd);
  if (fstatSync(fd).isFIFO()) return new Socket({ fd, readable: true, writable: false });
  return createReadStream(path, { fd });
}
