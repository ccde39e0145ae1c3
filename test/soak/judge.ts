import type { Ended, Seen } from './asking.ts';
import { dueMs, type Program } from './programs.ts';

/** Ways in which Podgate can fail its word. */
export const MISSES = ['lost', 'doubled', 'wrong_bytes', 'wrongly_reported', 'late'] as const;
export type Miss = (typeof MISSES)[number];

/** What is known of an execution besides its answer. */
export type Facts = {
  /** How often the program has begun. */
  runs: number;
  /** A gateway was killed while the caller waited. */
  gatewayKilled: boolean;
  /** The machine stood still while the caller waited. */
  stoodStill: boolean;
};

/** What a machine that is busy adds to any answer. */
export const BUSY_MS = 15_000;
/** How long past its time an answer is waited for. */
export const PATIENCE_MS = 60_000;

/** Refusals: nothing ran, the caller may come again. */
const REFUSALS = new Set(['no_agent', 'at_capacity', 'draining', 'backend_unavailable', 'rate_limited']);
/** What started, or may have. */
const LOSSES = new Set(['agent_lost', 'maybe_started', 'draining', 'sandbox_lost', 'deadline_exceeded']);

/** What is wrong with an answer, if anything is. The runs are counted again when everything is over. */
export function judge(program: Program, seen: Seen, facts: Facts): { miss: Miss; why: string } | undefined {
  // Under a key it may run again when its agent has gone: that is looked up when everything is over.
  if (facts.runs > 1 && program.reading.as !== 'keyed')
    return { miss: 'doubled', why: `ran ${facts.runs} times` };
  if (seen.saw === 'silence') return facts.stoodStill ? undefined : { miss: 'lost', why: 'no answer came' };
  if (!facts.stoodStill && seen.tookMs > dueMs(program) + BUSY_MS)
    return { miss: 'late', why: `${Math.round(seen.tookMs)} ms` };
  switch (seen.saw) {
    case 'result':
      return judgeResult(program, seen, facts);
    case 'failure':
      return judgeFailure(program, seen, facts);
    case 'break':
      if (facts.gatewayKilled || program.kind === 'stalled_reader') return undefined;
      return { miss: 'lost', why: `the connection broke: ${seen.cause}` };
    case 'nonsense':
      return { miss: 'wrongly_reported', why: seen.cause };
    case 'nothing':
    // Whether its agent had room for it is looked up when everything is over.
    case 'gap':
      return undefined;
  }
}

/**
 * A whole answer to a caller who comes back under its key has no event for output that is gone: it ends early, and says
 * so. That is the gap that a stream tells of.
 */
export function withGap({ reading, output, outcome, exitCode }: Program, seen: Seen): Seen {
  if (seen.saw !== 'result' || !seen.cut || reading.as !== 'keyed' || hasOutput(seen, output)) return seen;
  const { executionId, tookMs, atMs } = seen;
  if (seen.outcome !== outcome || seen.exitCode !== exitCode || seen.timedOut) return seen;
  return { executionId, tookMs, atMs, saw: 'gap' };
}

/**
 * Whether a program that should have ended was ended by its time, which was over. Its output may have been held back while
 * its instance was away: that is looked up when everything is over.
 */
export function isOutOfTime({ outcome, request: { timeout_ms = 0 } }: Program, seen: Seen): boolean {
  if (seen.saw !== 'result' || outcome === 'timed_out') return false;
  return seen.outcome === 'timed_out' && seen.exitCode === null && seen.tookMs >= timeout_ms;
}

function judgeResult(
  program: Program,
  seen: Extract<Seen, { saw: 'result' }>,
  { runs }: Facts,
): { miss: Miss; why: string } | undefined {
  const { exitCode, outcome, output } = program;
  const timesOut = outcome === 'timed_out';
  // One that is ended 300 ms after it began may not have come to count itself.
  if (runs === 0 && !timesOut) return { miss: 'wrongly_reported', why: 'a result of what did not run' };
  if (isOutOfTime(program, seen)) return undefined;
  if (seen.outcome !== outcome || seen.exitCode !== exitCode || seen.timedOut !== timesOut)
    return { miss: 'wrongly_reported', why: `${seen.outcome}, ${seen.exitCode}` };
  if (!hasOutput(seen, output))
    return { miss: 'wrong_bytes', why: `stdout ${seen.stdout}, stderr ${seen.stderr}` };
  return undefined;
}

function hasOutput({ stdout, stderr }: Ended, output: Program['output']): boolean {
  return !output || (stdout === output.stdout && stderr === output.stderr);
}

function judgeFailure(
  { kind, reading }: Program,
  { code, started, retryable, status, detail }: Extract<Seen, { saw: 'failure' }>,
  { runs }: Facts,
): { miss: Miss; why: string } | undefined {
  const told = `${status} ${code}, started ${started}, ran ${runs}: ${detail}`;
  const known = started === 'no' ? REFUSALS : LOSSES;
  if (!known.has(code) && !(code === 'reader_stalled' && kind === 'stalled_reader'))
    return { miss: 'wrongly_reported', why: told };
  // Under a key each answer speaks of its own request, and what another one began is safe to be asked for again.
  if (reading.as === 'keyed') return undefined;
  const denies = started === 'no' || retryable || status === 503 || status === 429;
  return denies && runs > 0 ? { miss: 'wrongly_reported', why: told } : undefined;
}
