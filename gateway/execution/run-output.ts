import { Failure } from '../../shared/errors.ts';
import { CHANNEL } from '../../shared/frame-type.ts';
import { MAX_FILES_OMITTED } from '../../shared/limits.ts';
import type { ExecutionResult, FileEnd, FromGateway } from '../../shared/messages.ts';
import type { Caller } from '../auth/caller.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { exitFault, type ReceivedBytes } from './check-exit.ts';
import type { OutputEnding } from './ending.ts';
import type { OutputGap } from './output-queue.ts';
import { OutputReader, type OutputReaderOptions } from './output-reader.ts';
import { ResultDocument } from './result-document.ts';
import { type OmittedFile, ResultFiles } from './result-files.ts';

export type RunOutputOptions = OutputReaderOptions &
  Pick<GatewayDeps, 'fileStore' | 'config'> & {
    caller: Caller;
    /** Cap of stdout and of stderr each. */
    maxOutputBytes: number;
    /** A document of results comes in place of files, or before them. */
    document?: DocumentPlace | undefined;
    /** Memory for a document, which is held until it is answered. */
    keep(bytes: number): void;
    /** Bytes that its reader has already. */
    from?: ReceivedBytes;
    /** False: somebody else stores the files. */
    isStoring?: boolean;
  };

export type DocumentPlace = 'in_place_of_files' | 'before_files';

/** Everything that an agent sends of one execution: text to its reader, files to the store, both within bounds. */
export class RunOutput {
  readonly reader: OutputReader;
  /** Bytes that came, past the cap included. */
  readonly received: { stdout: number; stderr: number };
  maxOutputBytes: number;
  #fileBytes = 0;
  #fileEnds = 0;
  /** Bytes that came and were not taken. */
  #pending = 0;
  readonly #files: ResultFiles;
  /** Files that came, where somebody else stores them. */
  readonly #unstored: OmittedFile[] = [];
  #document: ResultDocument | undefined;
  #hasFiles = true;
  readonly #options: RunOutputOptions;
  readonly #isStoring: boolean;

  constructor(given: RunOutputOptions) {
    const consumed = (bytes: number) => {
      this.#pending -= bytes;
      given.consumed(bytes);
    };
    const options = { ...given, consumed };
    this.#options = options;
    this.received = { stdout: 0, stderr: 0, ...given.from };
    this.maxOutputBytes = given.maxOutputBytes;
    this.#isStoring = given.isStoring ?? true;
    this.reader = new OutputReader(options);
    this.#files = new ResultFiles({
      store: options.fileStore,
      caller: options.caller,
      maxFileBytes: options.config.maxFileBytes,
      consumed,
    });
    if (options.document) this.expectDocument(options.document);
  }

  /** Before anything of it has come. */
  expectDocument(place: DocumentPlace): void {
    const { consumed, keep } = this.#options;
    this.#document ??= new ResultDocument({ consumed, keep });
    this.#hasFiles = place === 'before_files';
  }

  /** Files stored so far, and their bytes. */
  get stored(): { count: number; bytes: number } {
    return { count: this.#files.files.length, bytes: this.#files.storedBytes };
  }

  /** Whether there is any file, stored here or not. */
  get hasFiles(): boolean {
    return this.#filesCount > 0;
  }

  get #filesCount(): number {
    return Math.max(0, this.#fileEnds - (this.#document ? 1 : 0));
  }

  /** Whether bytes of a file have come whose END has not. */
  get inFile(): boolean {
    return this.#files.unfinished || (this.#document?.unfinished ?? false);
  }

  /** Where another stream is to go on, as ATTACH says it. */
  get position(): Omit<FromGateway['ATTACH'], 'execution_id' | 'reader'> {
    const { stdout, stderr } = this.received;
    return {
      offsets: { '1': stdout, '2': stderr, '3': this.#fileBytes },
      files: this.#fileEnds,
      pending: this.#pending,
    };
  }

  take(channel: number, bytes: Uint8Array): void {
    this.#pending += bytes.byteLength;
    if (channel === CHANNEL.files) {
      this.#fileBytes += bytes.byteLength;
      if (this.#document && !this.#document.ended) this.#document.data(bytes);
      else if (this.#isStoring && this.#hasFiles) this.#files.data(bytes);
      else this.#options.consumed(bytes.byteLength);
      return;
    }
    const name = channel === CHANNEL.stdout ? 'stdout' : 'stderr';
    const room = Math.max(0, this.maxOutputBytes - this.received[name]);
    this.received[name] += bytes.byteLength;
    // The agent was told the cap; what is over it goes nowhere, whatever it says.
    if (room > 0) this.reader.push(channel, bytes.byteLength > room ? bytes.subarray(0, room) : bytes);
    if (bytes.byteLength > room) this.#options.consumed(bytes.byteLength - room);
  }

  /** False where the agent breaks the protocol. */
  endFile(end: FileEnd): boolean {
    this.#fileEnds += 1;
    if (this.#document && !this.#document.ended) {
      const isSound = this.#document.end(end);
      this.#files.lose(this.#document.lostBehind);
      return isSound;
    }
    if (!this.#hasFiles) return false;
    if (this.#isStoring) return this.#files.end(end);
    if (this.#unstored.length < MAX_FILES_OMITTED)
      this.#unstored.push({ path: end.path, reason: 'not_stored' });
    return true;
  }

  /** These bytes will not come, and whoever reads is told. False where the agent breaks the protocol. */
  gap({ channel, from, to }: OutputGap): boolean {
    if (channel === CHANNEL.files) {
      this.#fileBytes = to;
      if (this.#document && !this.#document.ended) this.#document.lose(to - from);
      else this.#files.lose(to - from);
      return true;
    }
    this.received[channel === CHANNEL.stdout ? 'stdout' : 'stderr'] = to;
    return this.reader.gap({ channel, from, to });
  }

  /** Resolves when every file is stored or given up; where somebody else stores them all are omitted. Throws where the result does not hold together. */
  async settle(result: ExecutionResult): Promise<OutputEnding> {
    const fault = exitFault(result, this.received);
    if (fault !== null) {
      const detail = "The agent's report of the end does not hold together.";
      throw new Failure('protocol_error', detail, { started: 'yes', cause: fault });
    }
    await this.#files.ended();
    const { files, omitted, omittedCount } = this.#files;
    const { stdout, stderr } = this.received;
    return {
      stdoutTruncated: result.stdout_truncated || this.#isCut(result.stdout_bytes, stdout),
      stderrTruncated: result.stderr_truncated || this.#isCut(result.stderr_bytes, stderr),
      files: [...files],
      filesOmitted: [...omitted, ...this.#unstored, ...result.files_omitted].slice(0, MAX_FILES_OMITTED),
      ...(this.#document && { results: this.#document.read(result.outcome) }),
      filesOmittedCount:
        omittedCount +
        (this.#isStoring ? 0 : this.#filesCount) +
        Math.max(result.files_omitted_count, result.files_omitted.length),
    };
  }

  /** Takes stored files back: nobody will ever learn their ids. */
  discard(): void {
    void this.#files.discard();
  }

  #isCut(total: number, received: number): boolean {
    return total > Math.min(received, this.maxOutputBytes);
  }
}
