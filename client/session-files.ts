import { bytesOf, discard, readJson } from './answers.ts';
import { blobOf, type Content } from './content.ts';
import type { CallOptions, PageOptions } from './options.ts';
import { invalidOption } from './podgate-error.ts';
import type { WorkspaceEntry, WorkspacePage } from './session-types.ts';
import type { Call, Transport } from './transport.ts';
import { createTurns } from './turns.ts';

type Bytes = ReadableStream<Uint8Array<ArrayBuffer>>;

/** Half of what a session has under way at once: the rest is for what runs there, and for files that are still read. */
const MAX_AT_ONCE = 4;

/**
 * Files of one session, by paths in its workspace. No link leads out of it: none is followed. However many are asked for
 * at once, few are under way; a file that is read counts for its session until its stream has ended.
 */
export class SessionFiles {
  readonly #transport: Transport;
  readonly #base: string;
  readonly #turns = createTurns(MAX_AT_ONCE);

  constructor(transport: Transport, base: string) {
    this.#transport = transport;
    this.#base = base;
  }

  /** The file as a stream: `first` and `last` are bytes, both counted. Cancel it when it is not wanted to its end. */
  async read(
    path: string,
    { signal, first, last }: CallOptions & { first?: number; last?: number } = {},
  ): Promise<Bytes> {
    const headers = { range: rangeOf(first, last) };
    const response = await this.#send('GET', '/files', { query: { path }, signal, headers });
    return bytesOf(response, signal);
  }

  /** Writes a file, with the folders that lead to it. */
  async write(path: string, content: Content, { signal }: CallOptions = {}): Promise<WorkspaceEntry> {
    const body = blobOf(content);
    return readJson(await this.#send('PUT', '/files', { query: { path }, signal, body: () => body }), signal);
  }

  /** One page of a folder, by name; `next_cursor` leads to the next. */
  async list(path = '', { signal, ...page }: PageOptions = {}): Promise<WorkspacePage> {
    return readJson(await this.#send('GET', '/files/list', { query: { path, ...page }, signal }), signal);
  }

  /** What lies there; of a link itself, and not of what it leads to. */
  async stat(path: string, { signal }: CallOptions = {}): Promise<WorkspaceEntry> {
    return readJson(await this.#send('GET', '/files/stat', { query: { path }, signal }), signal);
  }

  /** Makes a folder; one that is there is as good. */
  async mkdir(path: string, { signal }: CallOptions = {}): Promise<WorkspaceEntry> {
    return readJson(await this.#send('POST', '/files/mkdir', { json: { path }, signal }), signal);
  }

  /** Renames a file or folder; a file in its way is replaced. */
  async move(from: string, to: string, { signal }: CallOptions = {}): Promise<WorkspaceEntry> {
    return readJson(await this.#send('POST', '/files/move', { json: { from, to }, signal }), signal);
  }

  /** `recursive`: a folder with all that is in it. */
  async delete(
    path: string,
    { recursive = false, signal }: CallOptions & { recursive?: boolean } = {},
  ): Promise<void> {
    const query = { path, recursive: String(recursive) };
    await discard(await this.#send('DELETE', '/files', { query, signal }));
  }

  /** A folder as tar: files, folders and links below it. Pipes, sockets and devices are left out. */
  async pack(path = '', { signal }: CallOptions = {}): Promise<Bytes> {
    return bytesOf(await this.#send('GET', '/tree', { query: { path }, signal }), signal);
  }

  /** Unpacks a tar, compressed or not, into a folder. Of one that is refused as damaged, the files before that stay. */
  async unpack(tar: Content, path = '', { signal }: CallOptions = {}): Promise<{ entries: number }> {
    const body = blobOf(tar);
    return readJson(await this.#send('PUT', '/tree', { query: { path }, signal, body: () => body }), signal);
  }

  #send(method: Call['method'], path: string, rest: Omit<Call, 'method' | 'path'>): Promise<Response> {
    // Until the answer begins, and not until it has been read: who reads none before all have begun would wait for ever.
    return this.#turns.take(rest.signal, () =>
      this.#transport.send({ method, path: this.#base + path, ...rest }),
    );
  }
}

/** Throws PodgateError for what is no range: HTTP passes over it, and the whole file would come. */
function rangeOf(first: number | undefined, last: number | undefined): string | undefined {
  if (first === undefined && last === undefined) return undefined;
  for (const [name, value] of Object.entries({ first, last })) {
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 0))
      throw invalidOption(name, 'must be a whole number from 0 on');
  }
  if (last !== undefined && last < (first ?? 0)) throw invalidOption('last', 'must not be below first');
  return `bytes=${first ?? 0}-${last ?? ''}`;
}
