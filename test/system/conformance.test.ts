import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  compare,
  conformanceTrouble,
  notCompared,
  QUICK_MODULES,
  type Report,
  runDirectly,
  runThroughPodgate,
  startConformanceStack,
  type Verdict,
} from '../conformance/conformance.ts';
import { DIFFERENCES } from '../conformance/differences.ts';
import type { Stack } from '../fakes/stack.ts';
import { describeSandboxed } from './suite.ts';

const TIMEOUT_MS = 120_000;
const MODULE = 'test_makes_a_socket';
const CASES = `
import socket, unittest

class Cases(unittest.TestCase):
    def test_anywhere(self):
        self.assertEqual(6 * 7, 42)

    def test_tcp(self):
        socket.socket().close()
`;

const verdicts = (tests: Record<string, Verdict>): Report => ({ python: '3', seconds: {}, tests });

describeSandboxed('CPython’s own tests through Podgate', () => {
  const trouble = conformanceTrouble();
  let stack: Stack;
  let folder: string;
  beforeEach((context) => context.skip(trouble !== undefined, trouble));
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'podgate-tests-'));
    await chmod(folder, 0o755);
    await writeFile(join(folder, `${MODULE}.py`), CASES);
    if (trouble === undefined) stack = await startConformanceStack();
  });
  afterAll(async () => {
    await stack?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  async function both(modules: readonly string[], moreTests?: string) {
    const [direct, podgate] = await Promise.all([
      runDirectly(modules, moreTests),
      runThroughPodgate(stack, modules, moreTests),
    ]);
    return { direct, podgate };
  }

  test.each(QUICK_MODULES)(
    '%s ends every case as it does directly',
    { timeout: TIMEOUT_MS },
    async (module) => {
      const { direct, podgate } = await both([module]);
      expect(Object.keys(direct.tests).length).toBeGreaterThan(100);
      expect(compare(direct, podgate)).toEqual([]);
      expect(notCompared(direct, podgate)).toEqual([]);
    },
  );

  test('a case that a sandbox fails is found', { timeout: TIMEOUT_MS }, async () => {
    const { direct, podgate } = await both([MODULE], folder);
    expect(compare(direct, podgate)).toEqual([
      {
        test: `test.${MODULE}.Cases.test_tcp`,
        direct: { verdict: 'ok' },
        podgate: { verdict: 'error', reason: expect.stringContaining('PermissionError') },
        explained: undefined,
      },
    ]);
  });

  test('a module that neither has is not called the same', { timeout: TIMEOUT_MS }, async () => {
    const { direct, podgate } = await both(['test_of_nothing']);
    expect(notCompared(direct, podgate)).toEqual(['test.test_of_nothing']);
  });
});

describe('a difference', () => {
  const name = 'test.test_subprocess.POSIXProcessTestCase.test_group';
  const skips = (reason: string) => verdicts({ [name]: { verdict: 'skipped', reason } });

  test('is explained where the case says what the explanation expects', () => {
    const [found] = compare(
      verdicts({ [name]: { verdict: 'ok' } }),
      skips('No identified group name to use for this test.'),
    );
    expect(found?.explained).toBe(DIFFERENCES.find(({ tests }) => tests.includes(name)));
  });

  test('is not explained where the case says something else, or is gone', () => {
    const direct = verdicts({ [name]: { verdict: 'ok' } });
    expect(compare(direct, skips('fork failed'))[0]?.explained).toBeUndefined();
    expect(compare(direct, verdicts({}))[0]).toMatchObject({
      podgate: { verdict: 'absent' },
      explained: undefined,
    });
  });
});
