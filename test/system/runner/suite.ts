import { afterAll, beforeAll, beforeEach, describe, expect } from 'vitest';
import {
  PYTHONS,
  type Sandbox,
  type SandboxOptions,
  SCRATCH,
  sandboxTrouble,
} from '../../fakes/runner-process.ts';
import { sandboxKind } from '../../fakes/sandbox-kind.ts';
import { until } from '../../fakes/until.ts';

/** How long anything may take that is not a limit under test. */
export const PATIENCE_MS = 20_000;
export const MIB = 1_048_576;
export const patience = () => AbortSignal.timeout(PATIENCE_MS);

/**
 * One sandbox per interpreter of PODGATE_TEST_PYTHONS, or one container, shared by the tests of `body`. A machine that
 * cannot have it skips them and says why.
 */
export function describeSandbox(
  title: string,
  body: (sandbox: () => Sandbox) => void,
  options: SandboxOptions = {},
): void {
  const kind = sandboxKind();
  describe.each(kind.pythons)(`${title} (%s)`, (python) => {
    const trouble = kind.trouble(python, options);
    let sandbox: Sandbox | undefined;
    beforeAll(async () => {
      if (trouble === undefined) sandbox = await kind.create({ python, ...options });
    });
    beforeEach((context) => {
      if (trouble !== undefined) context.skip(trouble);
    });
    afterAll(async () => {
      await sandbox?.[Symbol.asyncDispose]();
      // The runner itself had nothing to complain of.
      expect(sandbox?.log() ?? '').toBe('');
    });
    body(() => sandbox as Sandbox);
  });
}

/** For tests that need sandboxes of their own: the interpreters, and the same skip. */
export function describePython(title: string, body: (python: string) => void): void {
  describe.each(PYTHONS)(`${title} (%s)`, (python) => {
    const trouble = sandboxTrouble(python);
    beforeEach((context) => {
      if (trouble !== undefined) context.skip(trouble);
    });
    body(python);
  });
}

/** Python as it stands in a test, without the test's indentation. */
export function py(strings: TemplateStringsArray, ...values: unknown[]): string {
  const text = String.raw({ raw: strings.raw }, ...values).replace(/^\n/, '');
  const indents = text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => line.length - line.trimStart().length);
  const indent = Math.min(...indents);
  return text
    .split('\n')
    .map((line) => line.slice(indent))
    .join('\n')
    .trimEnd();
}

/** Numbers of calls that the two machines number differently, as `NR` in a program of a test. */
export const NR = `NR = {"x86_64": dict(tkill=200, tgkill=234, sigqueue=129, ioprio=251, kcmp=312, migrate=256),
      "aarch64": dict(tkill=130, tgkill=131, sigqueue=138, ioprio=30, kcmp=272, migrate=238)}[__import__("os").uname().machine]`;

/** The fewest open descriptors of each sandbox between two programs: it comes back to that after every one. */
const descriptors = new WeakMap<Sandbox, number>();

/** Nothing of what ran before is still there, and the next execution is as good as the first. */
export async function expectNext(sandbox: Sandbox): Promise<void> {
  expect(sandbox.strays()).toEqual([]);
  expect(await sandbox.client.ping(patience())).toMatchObject({ processes: 0 });
  const next = await sandbox.run('import os\nprint(sum(range(10)), open("/proc/self/stat").read() != "")');
  expect(next.stdout).toBe('45 True\n');
  expect(next.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
  const open = sandbox.runnerDescriptors();
  if (open === undefined) return;
  const fewest = Math.min(open, descriptors.get(sandbox) ?? open);
  descriptors.set(sandbox, fewest);
  // The zygote closes its own of a program behind the end of it.
  await until(() => (sandbox.runnerDescriptors() as number) <= fewest);
}

/** `expectNext`, then RESET says that it left nothing, and nothing is what the next execution finds. */
export async function expectUnharmed(sandbox: Sandbox): Promise<void> {
  await expectNext(sandbox);
  expect(await sandbox.client.reset(patience())).toEqual({ ok: true, leftovers: [] });
  expect(sandbox.remains()).toEqual([]);
  expect(await filesIn(sandbox)).toEqual([]);
  expect(sandbox.strays()).toEqual([]);
}

/** Everything that user code could have left on a file system, as user code sees it. */
export async function filesIn(sandbox: Sandbox): Promise<string[]> {
  const ran = await sandbox.run(py`
    import json, os
    def fail(error): raise error
    found = []
    for root in ${JSON.stringify([sandbox.workspace, ...SCRATCH])}:
        for base, directories, files in os.walk(root, onerror=fail):
            found += [os.path.join(base, name) for name in directories + files]
    found.remove(os.path.abspath(__file__))
    for table in ('shm', 'msg', 'sem'):
        found += open('/proc/sysvipc/' + table).read().splitlines()[1:]
    print(json.dumps(sorted(found)))
  `);
  expect(ran.stderr).toBe('');
  return JSON.parse(ran.stdout);
}
