/** Statuses that commands end with where a program gives none of its own: as timeout(1) and env(1) have them, or a shell. */
export const EXIT_STATUS = {
  timedOut: 124,
  /** Podgate itself failed or refused. */
  failed: 125,
  /** 128 + SIGINT. */
  cancelled: 130,
  /** 128 + SIGPIPE: who read the output left. */
  readerGone: 141,
} as const;
