import { Failure } from '../../shared/errors.ts';
import { MAX_SESSION_WORK, MAX_TERMINALS } from '../../shared/limits.ts';
import type { SessionWork } from '../../shared/session-messages.ts';

/** A piece of work: the interpreter that it has to itself, or the terminal that it is. */
export type Underway = {
  readonly context: string | null;
  readonly terminal: { readonly name: string; readonly execution_id: string } | null;
};

/** Throws `busy` where a session has as much under way as it may, or its interpreter, and `duplicate` for a terminal that is there. */
export function requireRoom(underway: readonly Underway[], work: SessionWork): void {
  const terminals = underway.flatMap(({ terminal }) => terminal ?? []);
  if (work.do === 'python' && underway.some(({ context }) => context === work.context))
    throw new Failure(
      'busy',
      `The context '${work.context}' runs something already: ask again when that has ended, or name another context.`,
      { retryAfterMs: 1_000 },
    );
  if (work.do === 'terminal' && terminals.some(({ name }) => name === work.name))
    throw new Failure('duplicate', `There is a terminal '${work.name}' already.`);
  if (work.do === 'terminal' && terminals.length >= MAX_TERMINALS)
    throw new Failure('busy', `At most ${MAX_TERMINALS} terminals are open in one session.`, {
      retryAfterMs: 1_000,
    });
  if (underway.length >= MAX_SESSION_WORK)
    throw new Failure('busy', `At most ${MAX_SESSION_WORK} pieces of work are under way in one session.`, {
      retryAfterMs: 1_000,
    });
}
