import type { ErrorCode, Failure } from '../../shared/errors.ts';
import type { AttachedBody, ExitBody, FileEnd } from '../../shared/messages.ts';
import type { TerminalSize } from '../../shared/session-messages.ts';
import type { SignalState } from '../../shared/signals.ts';
import type { Loan } from '../pool/lending.ts';
import type { ExecutionOutput } from './execution-output.ts';
import type { WriterPort } from './live-input.ts';

/** What an execution says to the gateway, over whatever stream of whatever link it has now. */
export type ExecutionPort = {
  /** What it goes over, the same for all its streams. */
  readonly link: object;
  accept(): void;
  /** Definite: nothing ran and nothing will. Ends the stream and cancels what it has queued. */
  nack(code: ErrorCode, detail: string, retryAfterMs: number | null): void;
  started(): void;
  /** Answers ATTACH. */
  attached(body: AttachedBody): void;
  /** These bytes of a channel are lost. */
  gap(channel: 1 | 2 | 3, from: number, to: number): void;
  /** Ends the stream without a word: its reader reads elsewhere. */
  close(): void;
  /** The bytes are kept by reference until they have left. */
  data(channel: 1 | 2 | 3, bytes: Uint8Array): void;
  fileEnd(file: FileEnd): void;
  /** Ends the stream, behind its data. `left`: all of it has gone out, or nobody takes it any more; or its link is lost. */
  exit(body: ExitBody, left: (how: 'left' | 'link_lost') => void): void;
  /** The runner has taken input: the gateway may send as much more. */
  consumed(bytes: number): void;
};

/** What the gateway, and the link under it, say to an execution. */
export type ExecutionInput = {
  /** False when there is more input than START announced: the peer broke the protocol. */
  data(bytes: Uint8Array): boolean;
  /** The input's END. False when it comes early. `keep`: of a stream that feeds a program, whose stdin stays open. */
  end(body?: { keep?: boolean | undefined }): boolean;
  /** Output may be sent until this many bytes over all channels. */
  window(limit: number): void;
  cancel(reason: string): void;
  /** Of a terminal, on a stream that feeds it. */
  resize?(size: TerminalSize): void;
  /** The port is dead: nothing more can be said over it. `link_lost`: its reader may come back over another. */
  leave(why: 'link_lost' | 'detached'): void;
};

/** One execution, as whoever keeps them all has it. */
export type Execution = ExecutionInput & {
  /** Gives the execution its sandbox. False: it is over and the loan is the caller's to give back. */
  run(loan: Loan): boolean;
  /** Ends it before it has a sandbox. */
  refuse(failure: Failure): void;
  /** The link that its input came over is lost: refuses it where the input is not whole. */
  strand(): void;
  /** To its program: only work of a session takes any. */
  signal(number: number): SignalState;
  /** Ends it now, whatever it does: its sandbox goes. */
  kill(failure: Failure): void;
  /** Takes in one who feeds the program while it runs. Throws the Failure that it is to be refused with. */
  feed(writer: string, port: WriterPort): ExecutionInput;
  readonly output: ExecutionOutput;
  readonly outputBytes: number;
};
