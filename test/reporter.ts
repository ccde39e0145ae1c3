import type { SerializedError } from 'vitest';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** `N passed, N failed`, with `, N skipped` only where something was skipped. */
export function countsLine({ passed, failed, skipped }: Counts): string {
  const line = `${passed} passed, ${failed} failed`;
  return skipped > 0 ? `${line}, ${skipped} skipped` : line;
}

/** The note of `ctx.skip(note)`; a test skipped without one has only its name to say why. */
export function skipReason(testCase: Pick<TestCase, 'name' | 'result'>): string {
  const result = testCase.result();
  return (result.state === 'skipped' && result.note) || testCase.name;
}

/**
 * Prints every skipped test with its reason, then the counts as the last line of the run.
 * A file that does not load and an error outside every test count as one failure each:
 * a run that vitest fails never ends with `0 failed`.
 */
export function createCountingReporter(print: (line: string) => void = console.log): Reporter {
  return {
    onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[], reason): void {
      const counts: Counts = { passed: 0, failed: unhandled.length, skipped: 0 };
      for (const module of modules) {
        counts.failed += module.errors().length;
        for (const suite of module.children.allSuites()) counts.failed += suite.errors().length;
        for (const testCase of module.children.allTests()) {
          const { state } = testCase.result();
          if (state === 'passed') counts.passed += 1;
          else if (state === 'skipped') counts.skipped += 1;
          else counts.failed += 1;
          if (state === 'skipped') {
            print(`skipped: ${module.relativeModuleId} > ${testCase.fullName}: ${skipReason(testCase)}`);
          }
        }
      }
      const empty = counts.passed + counts.skipped === 0;
      if (counts.failed === 0 && (reason !== 'passed' || empty)) counts.failed = 1;
      print(countsLine(counts));
    },
  };
}
