import { afterAll, beforeAll, beforeEach, describe } from 'vitest';
import { createLocalBackend } from '../../agent/backends/local/local-backend.ts';
import { systemClock } from '../../agent/clock.ts';
import type { Failure } from '../../shared/errors.ts';
import { type Stack, type StackOptions, startStack } from '../fakes/stack.ts';

/** Why this machine cannot run code of strangers; undefined where it can. */
export async function stackTrouble(): Promise<string | undefined> {
  try {
    const backend = await createLocalBackend({
      instance: 'probe',
      path: '/usr/bin',
      unsafe: false,
      clock: systemClock,
      log: () => {},
    });
    await backend.close();
    return undefined;
  } catch (failure) {
    return (failure as Failure).detail;
  }
}

/** One gateway with its agents, shared by the tests of `body`. A machine without namespaces skips them and says why. */
export function describeStack(
  title: string,
  options: StackOptions,
  body: (stack: () => Stack) => void,
): void {
  describe(title, () => {
    let stack: Stack | undefined;
    let trouble: string | undefined;
    beforeAll(async () => {
      trouble = await stackTrouble();
      if (trouble === undefined) stack = await startStack(options);
    });
    beforeEach((context) => {
      if (trouble !== undefined) context.skip(trouble);
    });
    afterAll(async () => {
      await stack?.[Symbol.asyncDispose]();
    });
    body(() => stack as Stack);
  });
}
