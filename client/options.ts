export type PodgateOptions = {
  /** Where the gateway is; a path before `/v1` is kept. May carry the key: `http://key:<jwt>@host`. */
  baseUrl: string | URL;
  /** The caller's JWT. */
  key?: string | undefined;
  /** The global one unless given. */
  fetch?: typeof fetch | undefined;
  /** Where to run when a request names no cluster. */
  cluster?: string | undefined;
  /** The end user that this client speaks for, in printable ASCII: their files are nobody else's. */
  user?: string | undefined;
};

/** A call whose signal aborts rejects with the signal's reason. What was sent may have happened all the same. */
export type CallOptions = { signal?: AbortSignal | undefined };

export type ExecuteOptions = CallOptions & {
  /** The same key and request, until ten minutes after its end, give the same execution, not another. */
  idempotencyKey?: string | undefined;
};

/** `limit`: entries of a page, at most. `cursor`: the `next_cursor` of the page before. */
export type PageOptions = CallOptions & { limit?: number | undefined; cursor?: string | undefined };
