import type { ExecuteRequest } from '../../shared/api.ts';
import { Failure } from '../../shared/errors.ts';
import { MAX_DATA_BYTES } from '../../shared/limits.ts';
import type { StartBody } from '../../shared/messages.ts';
import type { Caller } from '../auth/caller.ts';
import type { FileStore } from '../files/file-store.ts';

/** One file to stage: bytes that came with the request, or a stored file that is read when its turn comes. */
export type StagedFile = { path: string; size: number } & (
  | { bytes: Uint8Array }
  | { fileId: string }
  /** As it comes in. */
  | { body: ReadableStream<Uint8Array> }
);

/** What goes over channel 0 (shared/protocol.md section 3), and its sizes for START. */
export type ExecutionInput = {
  sizes: StartBody['sizes'];
  /** Manifest, code and stdin. */
  head: readonly Uint8Array[];
  files: readonly StagedFile[];
  bytes: number;
};

const encoder = new TextEncoder();

/** Resolves input files. Rejects with 404 for a stored file that is missing, expired or another principal's. */
export async function prepareInput(
  request: ExecuteRequest,
  caller: Caller,
  store: FileStore,
): Promise<ExecutionInput> {
  const files =
    request.files.length === 0
      ? []
      : await Promise.all(request.files.map((file) => stage(file, caller, store)));
  const manifest = encoder.encode(
    JSON.stringify({
      args: request.args,
      env: request.env,
      files: files.map(({ path, size }) => ({ path, size })),
    }),
  );
  const code = encoder.encode(request.code);
  const stdin = request.stdin === null ? null : encoder.encode(request.stdin);
  const fileBytes = files.reduce((sum, { size }) => sum + size, 0);
  const sizes = {
    manifest: manifest.byteLength,
    code: code.byteLength,
    stdin: stdin?.byteLength ?? null,
    files: fileBytes,
  };
  const head = joinSmall([manifest, code, ...(stdin ? [stdin] : [])]);
  const bytes = sizes.manifest + sizes.code + (sizes.stdin ?? 0) + fileBytes;
  return { sizes, head, files, bytes };
}

async function stage(
  file: ExecuteRequest['files'][number],
  caller: Caller,
  store: FileStore,
): Promise<StagedFile> {
  const { path } = file;
  if (file.content !== undefined) return inline(path, encoder.encode(file.content));
  if (file.content_base64 !== undefined) return inline(path, decodeBase64(file.content_base64));
  const fileId = file.file_id ?? '';
  try {
    const { size_bytes } = await store.stat(caller.principal, fileId);
    return { path, size: size_bytes, fileId };
  } catch (error) {
    throw notFoundForPath(error, fileId, path);
  }
}

/** The contract's own sentence for a file that an execution wants; other failures stay as they are. */
export function notFoundForPath(error: unknown, fileId: string, path: string): unknown {
  if (!(error instanceof Failure) || error.code !== 'not_found') return error;
  return new Failure('not_found', `File with ID '${fileId}' not found for path '${path}'.`);
}

function inline(path: string, bytes: Uint8Array): StagedFile {
  return { path, size: bytes.byteLength, bytes };
}

function decodeBase64(text: string): Uint8Array {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index += 1) bytes[index] = binary.charCodeAt(index);
  return bytes;
}

/** Small parts as one: each would be a frame of its own otherwise. */
function joinSmall(parts: readonly Uint8Array[]): readonly Uint8Array[] {
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0);
  if (length > MAX_DATA_BYTES) return parts;
  const joined = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.byteLength;
  }
  return [joined];
}
