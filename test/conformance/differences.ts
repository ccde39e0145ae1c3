/** Test cases whose verdict through Podgate is not the interpreter's own, and why that is as it should be. */
export type Difference = {
  /** The verdict through Podgate. */
  verdict: 'skipped' | 'failed' | 'error' | 'ok';
  reason: string;
  tests: readonly string[];
};

export const DIFFERENCES: readonly Difference[] = [
  {
    verdict: 'skipped',
    reason: "A sandbox's /etc/group names no group that the test would look for.",
    tests: [
      'test.test_subprocess.POSIXProcessTestCase.test_extra_groups',
      'test.test_subprocess.POSIXProcessTestCase.test_group',
    ],
  },
  {
    verdict: 'error',
    reason:
      'The test expects EPERM from setuid to 65534; in a user namespace of one UID the kernel answers EINVAL.',
    tests: ['test.test_subprocess.POSIXProcessTestCase.test_user'],
  },
  {
    verdict: 'ok',
    reason:
      'The interpreter alone has more descriptors than the test is ready to open; in a sandbox it meets the limit and runs.',
    tests: [
      'test.test_subprocess.ProcessTestCase.test_no_leaking',
      'test.test_subprocess.ProcessTestCaseNoPoll.test_no_leaking',
    ],
  },
];
