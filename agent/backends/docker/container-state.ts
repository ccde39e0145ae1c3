import type * as z from 'zod';
import { Failure } from '../../../shared/errors.ts';
import type { SandboxEnd } from '../backend.ts';
import type { ANSWER } from './engine-answer.ts';

/** 128 + SIGKILL. */
const KILLED = 137;

/** `State` of an inspected container. */
export type ContainerState = NonNullable<z.infer<typeof ANSWER.container>['State']>;

const OVER: ReadonlySet<string> = new Set(['exited', 'dead', 'removing', 'stopped']);

/** Whether a container of this status still is, or will be, a sandbox. */
export function isOver(status: string | undefined): boolean {
  return OVER.has(status ?? '');
}

/** Why a container is no more; undefined while it may still run. No state: it is not there. */
export function containerEnd(state: ContainerState | undefined): SandboxEnd | undefined {
  if (state === undefined) return ended('deleted', 'The container was removed.');
  if (!isOver(state.Status)) return undefined;
  // The engine keeps in mind that anything in it was killed for memory: it was PID 1 only if that was killed.
  if (state.OOMKilled === true && state.ExitCode === KILLED)
    return ended('memory', 'The sandbox used more memory than it may.');
  const detail = `The sandbox's runner ended with ${state.ExitCode ?? 'an unknown code'}.`;
  return ended('exited', detail, state.Error);
}

function ended(why: string, detail: string, words = ''): SandboxEnd {
  const cause = words === '' ? undefined : new Error(words);
  return { why, failure: new Failure('sandbox_lost', detail, { cause }) };
}
