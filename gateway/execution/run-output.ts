import { Failure } from '../../shared/errors.ts';
import { MAX_FILES_OMITTED } from '../../shared/limits.ts';
import { CHANNEL, type ExecutionResult, type FileEnd, type FromGateway } from '../../shared/messages.ts';
import type { Caller } from '../auth/caller.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { ResultDocument } from '../sessions/result-document.ts';
import { exitFault } from './check-exit.ts';
import { OutputReader, type OutputReaderOptions } from './output-reader.ts';
import { type OmittedFile, type ResultFile, ResultFiles } from './result-files.ts';

export type RunOutputOptions = OutputReaderOptions &
  Pick<GatewayDeps, 'fileStore' | 'config'> & {
    caller: Caller;
    /** Cap of stdout and of stderr each. */
    maxOutputBytes: number;
    /** Set where one document comes in place of files; it is held until it is answered. */
    keepDocument?: ((bytes: number) => void) | undefined;
  };

/** What the output adds to a result: checked, capped, stored. */
export type OutputEnding = {
  stdoutTruncated: boolean;
  stderrTruncated: boolean;
  files: readonly ResultFile[];
  filesOmitted: readonly OmittedFile[];
  filesOmittedCount: number;
  /** What came in place of files. */
  document?: Uint8Array;
};

/** Everything that an agent sends of one execution: text to its reader, files to the store, both within bounds. */
export class RunOutput {
  readonly reader: OutputReader;
  /** Bytes that came, past the cap included. */
  readonly received = { stdout: 0, stderr: 0 };
  #fileBytes = 0;
  #fileEnds = 0;
  /** Bytes that came and were not taken. */
  #pending = 0;
  readonly #files: ResultFiles | ResultDocument;
  readonly #options: RunOutputOptions;

  constructor(given: RunOutputOptions) {
    const consumed = (bytes: number) => {
      this.#pending -= bytes;
      given.consumed(bytes);
    };
    const options = { ...given, consumed };
    this.#options = options;
    this.reader = new OutputReader(options);
    this.#files = options.keepDocument
      ? new ResultDocument({ consumed, keep: options.keepDocument })
      : new ResultFiles({
          store: options.fileStore,
          caller: options.caller,
          maxFileBytes: options.config.maxFileBytes,
          consumed,
        });
  }

  /** Files stored so far, and their bytes. */
  get stored(): { count: number; bytes: number } {
    return { count: this.#files.files.length, bytes: this.#files.storedBytes };
  }

  /** Whether bytes of a file have come whose END has not. */
  get inFile(): boolean {
    return this.#files.unfinished;
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
      this.#files.data(bytes);
      return;
    }
    const name = channel === CHANNEL.stdout ? 'stdout' : 'stderr';
    const room = Math.max(0, this.#options.maxOutputBytes - this.received[name]);
    this.received[name] += bytes.byteLength;
    // The agent was told the cap; what is over it goes nowhere, whatever it says.
    if (room > 0) this.reader.push(channel, bytes.byteLength > room ? bytes.subarray(0, room) : bytes);
    if (bytes.byteLength > room) this.#options.consumed(bytes.byteLength - room);
  }

  /** False where the agent breaks the protocol. */
  endFile(end: FileEnd): boolean {
    this.#fileEnds += 1;
    return this.#files.end(end);
  }

  /** Resolves when every file is stored or given up. Throws where the result does not hold together. */
  async settle(result: ExecutionResult): Promise<OutputEnding> {
    const fault = exitFault(result, this.received);
    if (fault !== null) {
      const detail = "The agent's report of the end does not hold together.";
      throw new Failure('protocol_error', detail, { started: 'yes', cause: fault });
    }
    await this.#files.settled();
    const { files, omitted, omittedCount } = this.#files;
    const { stdout, stderr } = this.received;
    return {
      stdoutTruncated: result.stdout_truncated || this.#isCut(result.stdout_bytes, stdout),
      stderrTruncated: result.stderr_truncated || this.#isCut(result.stderr_bytes, stderr),
      files: [...files],
      filesOmitted: [...omitted, ...result.files_omitted].slice(0, MAX_FILES_OMITTED),
      ...(this.#files instanceof ResultDocument && { document: this.#files.bytes }),
      filesOmittedCount: omittedCount + Math.max(result.files_omitted_count, result.files_omitted.length),
    };
  }

  /** Takes stored files back: nobody will ever learn their ids. */
  discard(): void {
    void this.#files.discard();
  }

  #isCut(total: number, received: number): boolean {
    return total > Math.min(received, this.#options.maxOutputBytes);
  }
}
