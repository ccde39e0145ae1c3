import { afterAll, beforeAll, beforeEach, describe } from 'vitest';
import { createLocalBackend } from '../../agent/backends/local/local-backend.ts';
import { systemClock } from '../../agent/clock.ts';
import type { Failure } from '../../shared/errors.ts';
import { type Stack, type StackOptions, startStack } from '../fakes/stack.ts';

let found: Promise<string | undefined> | undefined;

/** Why this machine cannot run code of strangers; undefined where it can. Found out once. */
export function stackTrouble(): Promise<string | undefined> {
  found ??= findTrouble();
  return found;
}

async function findTrouble(): Promise<string | undefined> {
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

/** Tests that need sandboxes. A machine without namespaces skips them and says why. */
export function describeSandboxed(title: string, body: () => void): void {
  describe(title, () => {
    let trouble: string | undefined;
    beforeAll(async () => {
      trouble = await stackTrouble();
    });
    beforeEach((context) => context.skip(trouble !== undefined, trouble));
    body();
  });
}

/** One gateway with its agents, shared by the tests of `body`. */
export function describeStack(
  title: string,
  options: StackOptions,
  body: (stack: () => Stack) => void,
): void {
  describeSandboxed(title, () => {
    let stack: Stack | undefined;
    beforeAll(async () => {
      if ((await stackTrouble()) === undefined) stack = await startStack(options);
    });
    afterAll(async () => {
      await stack?.[Symbol.asyncDispose]();
    });
    body(() => stack as Stack);
  });
}
