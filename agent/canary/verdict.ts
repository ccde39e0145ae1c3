/**
 * Whether a template may serve. `pending`: its first canary is under way, and work waits. `untested`: no canary came to
 * an end for so long that nothing is proven any more. Times are the wall clock's.
 */
export type Verdict =
  | { readonly phase: 'pending' }
  | { readonly phase: 'proven'; readonly checkedAtMs: number }
  | { readonly phase: 'refused'; readonly why: 'broken' | 'untested'; readonly detail: string };

export type VerdictEvent =
  | { readonly kind: 'held'; readonly atMs: number }
  | { readonly kind: 'broke'; readonly detail: string }
  /** A canary came to no end: it proves nothing either way. */
  | { readonly kind: 'failed'; readonly detail: string }
  | { readonly kind: 'aged' };

/** What was proven is believed for so long, while canaries come to no end. */
export const PROVEN_FOR_MS = 1_800_000;

export function nextVerdict(verdict: Verdict, event: VerdictEvent): Verdict {
  switch (event.kind) {
    case 'held':
      return { phase: 'proven', checkedAtMs: event.atMs };
    case 'broke':
      return { phase: 'refused', why: 'broken', detail: event.detail };
    case 'failed':
      return verdict.phase === 'pending'
        ? { phase: 'refused', why: 'untested', detail: event.detail }
        : verdict;
    default:
      return verdict.phase === 'proven'
        ? { phase: 'refused', why: 'untested', detail: 'It was not proven for too long.' }
        : verdict;
  }
}
