import { invalidOption } from './podgate-error.ts';

/** Bytes of a known length: the sandbox is told it before they come. */
export type Content = Blob | Uint8Array<ArrayBuffer> | ArrayBuffer | string;

const BUFFER = '[object ArrayBuffer]';

/** Throws PodgateError for anything else: a Blob would hold its name, `[object ReadableStream]` for a stream. */
export function blobOf(content: Content): Blob {
  if (content instanceof Blob) return content;
  // Those of another realm are no instances.
  const isBytes = ArrayBuffer.isView(content) || Object.prototype.toString.call(content) === BUFFER;
  if (typeof content !== 'string' && !isBytes)
    throw invalidOption('content', 'must be text, bytes or a Blob');
  return new Blob([content]);
}
