import { Failure } from '../../shared/errors.ts';
import type { Timers } from '../gateway-deps.ts';
import { DISCARD_BOUNDS, type DiscardBounds, discardRest } from '../http/discard.ts';
import { parseFieldDisposition } from './disposition.ts';
import { fileName } from './file-name.ts';
import type { FileMeta, FileWriter } from './file-store.ts';
import { MultipartParser, readBoundary } from './multipart.ts';

export type UploadDeps = {
  /** Opens the writer when the file's first byte is near: a form without a file costs nothing. */
  open: (signal: AbortSignal) => Promise<FileWriter>;
  /** Ends it with its reason. */
  denied: AbortSignal;
  timers: Timers;
  discard?: DiscardBounds;
};

type Source = ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;

/**
 * Stores the field `file` of a multipart/form-data request, streamed; other fields are read and forgotten. The file is
 * visible only when the whole form was well-formed; whatever ends the request earlier leaves nothing behind.
 */
export async function receiveUpload(
  request: Request,
  { open, denied, timers, discard = DISCARD_BOUNDS }: UploadDeps,
): Promise<FileMeta> {
  const source = request.body?.getReader() as Source | undefined;
  const upload = new Upload(open, AbortSignal.any([request.signal, denied]));
  try {
    const parser = new MultipartParser(readBoundary(request.headers.get('content-type')));
    let received = 0;
    for await (const chunk of chunksOf(source, denied)) {
      received += chunk.byteLength;
      if (received - upload.storedBytes > discard.maxBytes) {
        throw new Failure('too_large', 'The form is too large beside its file');
      }
      for (const event of parser.push(chunk)) {
        if (event.type === 'part') await upload.begin(event.headers.get('content-disposition') ?? '');
        else if (event.type === 'data') await upload.write(event.bytes);
        else upload.endPart();
      }
    }
    parser.end();
    denied.throwIfAborted();
    return await upload.commit();
  } catch (thrown) {
    const failure = denied.aborted ? denied.reason : thrown;
    await upload.abort();
    if (failure instanceof Failure && source) await discardRest(source, timers, discard);
    throw failure;
  }
}

/** The one file of a form. */
class Upload {
  readonly #open: UploadDeps['open'];
  readonly #signal: AbortSignal;
  #file: { writer: FileWriter; filename: string } | undefined;
  #inFile = false;
  storedBytes = 0;

  constructor(open: UploadDeps['open'], signal: AbortSignal) {
    this.#open = open;
    this.#signal = signal;
  }

  async begin(disposition: string): Promise<void> {
    const { name, filename } = parseFieldDisposition(disposition);
    // The first counts; another of the same name is as extra as any other field.
    this.#inFile = name === 'file' && this.#file === undefined;
    if (this.#inFile)
      this.#file = { writer: await this.#open(this.#signal), filename: fileName(filename ?? '') };
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (!this.#inFile) return;
    await this.#file?.writer.write(bytes);
    this.storedBytes += bytes.byteLength;
  }

  endPart(): void {
    this.#inFile = false;
  }

  async commit(): Promise<FileMeta> {
    if (this.#file === undefined) {
      const message = "The form has no field 'file'";
      throw new Failure('invalid_request', message, { errors: [{ path: 'file', message }] });
    }
    return this.#file.writer.commit({ filename: this.#file.filename });
  }

  async abort(): Promise<void> {
    await this.#file?.writer.abort().catch(() => {});
  }
}

async function* chunksOf(
  source: Source | undefined,
  denied: AbortSignal,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  for (;;) {
    const { done, value } = (await orDenied(source?.read(), denied)) ?? { done: true };
    if (done) return;
    yield value;
  }
}

/** Each wait has a promise of its own: one that lasts would keep something of every chunk. */
async function orDenied<T>(work: Promise<T> | undefined, denied: AbortSignal): Promise<T | undefined> {
  const end = Promise.withResolvers<never>();
  const onDenied = () => end.reject(denied.reason);
  denied.addEventListener('abort', onDenied, { once: true });
  try {
    if (denied.aborted) onDenied();
    return await Promise.race([end.promise, work]);
  } finally {
    denied.removeEventListener('abort', onDenied);
  }
}
