import { Failure } from '../../shared/errors.ts';
import { MAX_READERS, REPLAY_BYTES, STREAM_WINDOW_BYTES } from '../../shared/limits.ts';
import type { AttachedBody, ExitBody, FileEnd } from '../../shared/messages.ts';
import type { OutputChannel } from '../runner/execution-stream.ts';
import { withoutFiles, withoutNames } from './exits.ts';
import { type ByChannel, type Offsets, OutputLog } from './output-log.ts';
import { NO_READER, neededBy, OutputReaders, type Reader, type ReaderHandle } from './output-readers.ts';
import type { ExecutionPort } from './port.ts';
import type { Retained, Retention } from './retention.ts';

const CHANNELS = [1, 2, 3] as const;

/** What a reader has already, `pending` bytes of which it has not acknowledged. */
export type ReadFrom = {
  readonly reader: string | null;
  readonly offsets: Offsets;
  readonly files: number;
  readonly pending: number;
};

export type ExecutionOutputDeps = {
  retention: Retention;
  /** How many of the first files are none. */
  documents?: number;
  /** The runner may send until this many bytes in all; never falls. `wasHeld`: it could send nothing until now. */
  onLimit: (limit: number, wasHeld: boolean) => void;
  /** A reader left, and is waited for or was the last; or nobody is waited for any more. */
  onAwaited: (isAwaited: boolean) => void;
};

/**
 * What one execution says, to everybody who reads it, and kept for those who come later (shared/protocol.md 9.3). The
 * slowest reader holds the program back; without a reader REPLAY_BYTES a channel do. Every byte that a reader may still
 * need is here: a gap can only be before what it had acknowledged.
 */
export class ExecutionOutput implements Retained {
  readonly log: OutputLog;
  readonly #retention: Retention;
  readonly #documents: number;
  /** Undefined once it is over: what only the running execution needs must not stay with its record. */
  #runs: Pick<ExecutionOutputDeps, 'onLimit' | 'onAwaited'> | undefined;
  readonly #readers = new OutputReaders();
  #granted = STREAM_WINDOW_BYTES;
  #started = false;
  #exit: ExitBody | undefined;
  /** The first bytes that a reader may want who was here before. */
  #wanted: Offsets = [0, 0, 0, 0] satisfies ByChannel;
  /** A reader lost its link and may come back. */
  #isAwaited = false;
  /** Nobody came back: nothing holds the program back while nobody reads. */
  #isLoose = false;
  #dropped = false;
  #isAcknowledged = false;
  #nextTold: PromiseWithResolvers<void> | undefined;

  constructor(port: ExecutionPort, deps: ExecutionOutputDeps) {
    this.#retention = deps.retention;
    this.#documents = deps.documents ?? 0;
    this.#runs = deps;
    this.log = new OutputLog(deps.retention);
    this.#readers.add({ id: null, port, from: this.#wanted, base: 0, limit: STREAM_WINDOW_BYTES });
  }

  get inUse(): boolean {
    return this.#readers.sizeWithLeaving > 0;
  }

  /** It is over, and somebody who reads has not had all of it, or lost its link and has not come back for the end. */
  get isUntold(): boolean {
    return this.#exit !== undefined && (this.#isAwaited || this.inUse);
  }

  /** Resolves when one of those whom it is still to be told to has had the end, or is gone. */
  nextTold(): Promise<void> {
    this.#nextTold ??= Promise.withResolvers();
    return this.#nextTold.promise;
  }

  /** Whether the runner may send nothing now. */
  get isHeld(): boolean {
    return this.log.total >= this.#granted;
  }

  /** What the runner may send in all. */
  get granted(): number {
    return this.#granted;
  }

  refuse({ code, detail, retryAfterMs }: Failure): void {
    for (const { port } of this.#readers.clear()) port.nack(code, detail, retryAfterMs ?? null);
  }

  started(): void {
    this.#started = true;
    for (const { port } of this.#readers) port.started();
  }

  data(channel: OutputChannel, bytes: Uint8Array): void {
    if (this.#dropped) return;
    this.log.push(channel, bytes);
    for (const { port } of this.#readers) port.data(channel, bytes);
    if (this.#isAwaited || !this.inUse) this.#grant();
    this.#trim();
  }

  fileEnd(file: FileEnd): void {
    if (this.#dropped) return;
    this.log.end(file);
    for (const { port } of this.#readers) port.fileEnd(file);
  }

  /** The last word. What was said stays for those who ask, until RESULT_ACK or the end of its record. */
  exit(exit: ExitBody): void {
    this.#exit = exit;
    for (const { path } of exit.result?.files_omitted ?? []) this.log.holdName(path);
    for (const reader of this.#readers.clear()) this.#tellEnd(reader, exit);
    this.#runs = undefined;
    this.#retention.ended(this);
  }

  /** Output is thrown away from now on: whoever would read it does not. */
  dropRest(): void {
    this.#dropped = true;
  }

  /** Whoever is waited for did not come back. True where nobody else reads: then nothing holds the program back. */
  giveUpWaiting(): boolean {
    this.#isAwaited = false;
    this.#isLoose = !this.inUse;
    this.#grant();
    return this.#isLoose;
  }

  /** Sends all that a reader has not had, and what is still to come. Throws what it is to be refused with. */
  attach(
    port: ExecutionPort,
    { reader, offsets, files, pending }: ReadFrom,
    told: AttachedBody,
  ): ReaderHandle {
    // Whoever reads keeps it: where there is no room it goes first.
    if (this.#exit && !this.inUse && this.#retention.isFull) this.drop();
    const { length, floor } = this.log;
    if (CHANNELS.some((channel) => offsets[channel] > length[channel]) || files > this.log.fileCount)
      throw new Failure('invalid_request', 'There is not so much output.');
    this.#readers.replace(reader);
    // The run that sent START has its place, however many others read.
    if (reader !== null && this.#readers.sizeWithLeaving >= MAX_READERS)
      throw new Failure('rate_limited', 'Too many read this execution already.', { retryAfterMs: 1_000 });
    const from = {
      1: Math.max(offsets[1], floor[1]),
      2: Math.max(offsets[2], floor[2]),
      3: Math.max(offsets[3], floor[3]),
    };
    const base = from[1] + from[2] + from[3] - pending;
    const joined = { id: reader, port, from, base, limit: STREAM_WINDOW_BYTES };
    port.attached(told);
    if (this.#started) port.started();
    for (const channel of CHANNELS)
      if (from[channel] > offsets[channel]) port.gap(channel, offsets[channel], from[channel]);
    for (const item of this.log.items(from, files)) {
      if ('file' in item) port.fileEnd(item.file);
      else port.data(item.channel, item.bytes);
    }
    if (reader === null) this.#isAwaited = false;
    if (this.#exit) {
      this.#tellEnd(joined, this.#exit);
      return NO_READER;
    }
    this.#readers.add(joined);
    this.#isLoose = false;
    if (!this.#isAwaited) this.#runs?.onAwaited(false);
    this.#grant();
    return this.#handle(joined);
  }

  /** Of the reader that START came with. */
  get first(): ReaderHandle {
    const [reader] = this.#readers;
    return reader ? this.#handle(reader) : NO_READER;
  }

  /** The caller has the result: its output may go, its outcome stays. */
  acknowledge(): void {
    if (!this.#exit) return;
    this.#isAcknowledged = true;
    this.#isAwaited = false;
    this.#told();
  }

  /** There is no room for it any more. */
  drop(): void {
    const files = this.log.forget() - this.#documents;
    if (this.#exit) this.#exit = withoutFiles(withoutNames(this.#exit), Math.max(0, files));
  }

  /** Nobody can ask any more. */
  forget(): void {
    this.#readers.letGo();
    this.log.forget();
    this.#retention.gone(this);
  }

  #tellEnd(reader: Reader, exit: ExitBody): void {
    this.#readers.tellEnd(reader, exit, (how) => {
      if (how === 'link_lost' && reader.id === null) this.#isAwaited = !this.#isAcknowledged;
      this.#told();
    });
  }

  #told(): void {
    this.#nextTold?.resolve();
    this.#nextTold = undefined;
    if (this.#isAcknowledged && !this.inUse) this.log.clear();
  }

  #handle(reader: Reader): ReaderHandle {
    return {
      window: (limit) => {
        if (limit <= reader.limit) return;
        reader.limit = limit;
        this.#grant();
        if (this.#retention.isFull) this.#trim();
      },
      leave: (why) => {
        if (!this.#readers.delete(reader)) return;
        const isAwaited = why === 'link_lost' && reader.id === null;
        if (isAwaited || (!this.inUse && !this.#isAwaited)) this.#wanted = neededBy(reader, this.log);
        this.#isAwaited ||= isAwaited;
        if (isAwaited || !this.inUse) this.#runs?.onAwaited(true);
        this.#grant();
      },
    };
  }

  #grant(): void {
    const limit = Math.min(
      this.#readers.limit,
      this.#isAwaited || !this.inUse ? this.#limitOfNobody() : Infinity,
    );
    if (limit <= this.#granted) return;
    const wasHeld = this.isHeld;
    this.#granted = limit;
    this.#runs?.onLimit(limit, wasHeld);
  }

  #limitOfNobody(): number {
    const { length, total } = this.log;
    if (this.#isLoose) return total + STREAM_WINDOW_BYTES;
    const room = CHANNELS.map((channel) => REPLAY_BYTES - (length[channel] - this.#wanted[channel]));
    return total + Math.max(0, Math.min(...room));
  }

  #trim(): void {
    // With room to spare the last REPLAY_BYTES stay for those who come later.
    const maxBytes = this.#retention.isFull ? 0 : REPLAY_BYTES;
    if (!this.log.isOver(maxBytes)) return;
    const isWanted = this.#isAwaited || (this.#readers.size === 0 && !this.#isLoose);
    this.log.trim(this.#readers.needed(this.log, isWanted ? this.#wanted : undefined), maxBytes);
  }
}
