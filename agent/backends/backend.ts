import type { Duplex } from 'node:stream';
import type { Failure } from '../../shared/errors.ts';
import type { Template } from '../../shared/template.ts';

/** One isolated place to run code, as its backend knows it. Holds no connection. */
export type Sandbox = {
  /** Unique within the cluster: a pod's or container's name, or a process id with its start time. */
  readonly id: string;
  readonly template: string;
  /** Hash of the template it was made from: another hash is a sandbox to replace. */
  readonly templateHash: string;
  readonly instance: string;
  readonly createdAtMs: number;
};

export type SandboxOptions = {
  /**
   * The runner's filter leaves sockets out, and everything else is as in the template's other sandboxes, the network that
   * it is in among it: the canary's way to tell the network's own refusal from the filter's. Never for a caller's code. A
   * backend that cannot keep the rest as it is rejects.
   */
  readonly unfiltered?: boolean;
};

/** Where several agents make sandboxes in one place, one of them looks for all: what each has found, for the others. */
export type Board = {
  /** This agent is the one that looks. */
  leads(): boolean;
  /** What the one that leads has written, as far as it is known here. */
  read(): string | undefined;
  /** Replaces what this agent has written; at most MAX_BOARD_BYTES. */
  write(text: string): void;
};
export const MAX_BOARD_BYTES = 65_536;

/** Why a sandbox is no more. `memory` is the program's own doing, the outcome `memory_limit`; any other word is the backend's. */
export type SandboxEnd = { readonly why: string; readonly failure: Failure };

/**
 * What makes sandboxes. A few calls, nothing else: pool, limits, frames and outcomes live above it, so that every
 * backend passes the same contract suite (test/contract/backend.ts).
 *
 * Failures are `Failure`s with a code of shared/errors.ts: `image_error`, `quota_exceeded`, `unschedulable`,
 * `policy_denied`, `backend_unavailable`.
 */
export type Backend = {
  readonly kind: 'kubernetes' | 'docker' | 'local';
  /** Makes a sandbox whose runner can be connected to. */
  create(template: Template, signal: AbortSignal, options?: SandboxOptions): Promise<Sandbox>;
  /**
   * Opens a byte stream to the sandbox's runner (agent/runner/protocol.md). A later call replaces the stream where the
   * backend can (`reconnects`); else it rejects with `sandbox_lost`. The stream ends or errors when the sandbox is gone.
   */
  connect(sandbox: Sandbox, signal: AbortSignal): Promise<Duplex>;
  readonly reconnects: boolean;
  /**
   * Why the sandbox ended; undefined where it has not, or where the backend does not learn it soon or before `signal`.
   * Absent where a sandbox never ends for a reason of its own.
   */
  endOf?(sandbox: Sandbox, signal: AbortSignal): Promise<SandboxEnd | undefined>;
  /**
   * Every execution runs in namespaces of its own below one sandbox (`place: "fresh"`), so that a `single_use` sandbox
   * goes back to the pool at once. Where it is false, each execution costs its sandbox.
   */
  readonly freshPerExecution: boolean;
  /** Absent: this agent is alone there. */
  readonly board?: Board;
  /** Ends the sandbox and everything in it. Idempotent; resolves when it is gone or surely going. */
  destroy(sandbox: Sandbox): Promise<void>;
  /** The sandboxes of this installation that exist now, also those of dead instances. */
  list(): Promise<Sandbox[]>;
  /**
   * Calls back whenever sandboxes may be made again after the backend could not be reached, or let nobody make them;
   * returns how to stop. Absent where it always can.
   */
  onReachable?(listener: () => void): () => void;
  /** Ends what the backend itself holds. Sandboxes still alive are destroyed. */
  close(): Promise<void>;
};
