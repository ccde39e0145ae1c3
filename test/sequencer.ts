import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * Files that take longest, longest first: one of them that began last would run alone at the end. Those that mostly wait
 * stand beside those that mostly work.
 */
export const LONGEST = [
  'test/faults/resume.test.ts',
  'test/docker/attacks.test.ts',
  'test/faults/when-things-break.test.ts',
  'test/docker/faults.test.ts',
  'test/faults/soak.test.ts',
  'test/faults/terminals.test.ts',
  'test/contract/sessions-kubernetes.test.ts',
  'test/system/runner/session.test.ts',
  'test/system/isolation.test.ts',
  'test/faults/streams.test.ts',
  'test/system/kubernetes-agent.test.ts',
  'test/faults/kubernetes.test.ts',
  'test/faults/shell-command.test.ts',
  'test/docker/agent.test.ts',
  'test/faults/events.test.ts',
  'test/docker/by-hand.test.ts',
  'test/system/cli.test.ts',
  'test/system/processes.test.ts',
  'test/system/conformance.test.ts',
  'test/system/gateway-node.test.ts',
  'test/system/cancellation.test.ts',
  'test/system/sessions.test.ts',
  'test/system/cluster-command.test.ts',
  'test/system/shell-command.test.ts',
  'test/system/runner/files.test.ts',
  'test/system/runner/departure.test.ts',
  'test/system/runner/stream.test.ts',
  'test/system/session-python.test.ts',
  'test/contract/backend-local.test.ts',
  'test/contract/sessions-local.test.ts',
  'test/system/readme.test.ts',
  'test/system/execute.test.ts',
  'test/system/runner/outcomes.test.ts',
  'test/system/agent-local.test.ts',
  'test/system/session-files.test.ts',
  'test/system/session-programs.test.ts',
];

/** Begins with what takes longest, also where no run before says how long that is. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification) => {
      const index = LONGEST.findIndex((path) => moduleId.endsWith(`/${path}`));
      return index < 0 ? LONGEST.length : index;
    };
    return sorted.sort((a, b) => rank(a) - rank(b));
  }
}
