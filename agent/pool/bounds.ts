/** Bounds of one template's pool. Times in ms. */
export const POOL_BOUNDS = {
  /** Sandboxes on their way at once: a kubelet starts 30 pods in 6.4 s, whoever asks for more waits for them anyway. */
  maxCreating: 8,
  /** An image may have to be pulled. */
  createTimeoutMs: 180_000,
  /** From the runner's stream to READY: the zygote imports what the template preloads. */
  readyTimeoutMs: 60_000,
  /** A sandbox whose stream is lost is looked for so long: less than its runner waits before it ends itself. */
  reconnectTimeoutMs: 90_000,
  reconnectBaseMs: 200,
  reconnectMaxMs: 5_000,
  /** A stream that is lost sooner after it replaced another is not replaced at once. */
  reconnectSteadyMs: 2_000,
  pingEveryMs: 15_000,
  pingTimeoutMs: 5_000,
  resetTimeoutMs: 10_000,
  /** After this long unused, what `pool.min` does not ask for goes, and so does what one principal keeps for itself. */
  unusedMs: 300_000,
  ownedUnusedMs: 60_000,
  /** Replaced before a cluster's own limits on a pod's life can hit a sandbox in the pool. */
  maxAgeMs: 3_600_000,
  /** A sandbox that is lost earlier than this after its making speaks against making the next one at once. */
  steadyMs: 10_000,
  /** In trouble, executions go on waiting while a sandbox was ready so lately: others may come free. */
  hopefulMs: 30_000,
  retryBaseMs: 1_000,
  retryMaxMs: 60_000,
  destroyTries: 3,
  /**
   * So much after an execution took a sandbox, another is made while one still waits; so much after it used one up, that
   * is removed. Both take the processors that its answer needs, where the cluster is on the same machine.
   */
  answerFirstMs: 20,
  /** A reset waits for RESULT_ACK, which not every answer has, and no longer than this: an answer is out in one or two. */
  resetAnywayMs: 3,
} as const;

export type PoolBounds = { readonly [Name in keyof typeof POOL_BOUNDS]: number };
