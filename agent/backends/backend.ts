import type { Duplex } from 'node:stream';
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

/**
 * What makes sandboxes. Four calls, nothing else: pool, limits, frames and outcomes live above it, so that every
 * backend passes the same contract suite (test/contract/backend.ts).
 *
 * Failures are `Failure`s with a code of shared/errors.ts: `image_error`, `quota_exceeded`, `unschedulable`,
 * `policy_denied`, `backend_unavailable`.
 */
export type Backend = {
  readonly kind: 'kubernetes' | 'docker' | 'local';
  /** Makes a sandbox whose runner can be connected to. */
  create(template: Template, signal: AbortSignal): Promise<Sandbox>;
  /**
   * Opens a byte stream to the sandbox's runner (agent/runner/protocol.md). A later call replaces the stream where the
   * backend can (`reconnects`); else it rejects with `sandbox_lost`. The stream ends or errors when the sandbox is gone.
   */
  connect(sandbox: Sandbox, signal: AbortSignal): Promise<Duplex>;
  readonly reconnects: boolean;
  /**
   * Every execution runs in namespaces of its own below one sandbox (`place: "fresh"`), so that a `single_use` sandbox
   * goes back to the pool at once. Where it is false, each execution costs its sandbox.
   */
  readonly freshPerExecution: boolean;
  /** Ends the sandbox and everything in it. Idempotent; resolves when it is gone or surely going. */
  destroy(sandbox: Sandbox): Promise<void>;
  /** The sandboxes of this installation that exist now, also those of dead instances. */
  list(): Promise<Sandbox[]>;
  /** Ends what the backend itself holds. Sandboxes still alive are destroyed. */
  close(): Promise<void>;
};
