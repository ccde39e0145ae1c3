/** Test cases whose verdict through Podgate is not the interpreter's own, and why that is as it should be. */
export type Difference = {
  /** The verdict through Podgate. */
  verdict: 'skipped' | 'failed' | 'error' | 'ok';
  /** What the case must say through Podgate for the explanation to hold; where it passes, what it says directly. */
  shows: RegExp;
  reason: string;
  tests: readonly string[];
};

const START_METHODS = ['fork', 'forkserver', 'spawn'];
const multiprocessing = (...cases: string[]) =>
  START_METHODS.flatMap((method) => cases.map((name) => `test.test_multiprocessing_${method}.${name}`));

export const DIFFERENCES: readonly Difference[] = [
  {
    verdict: 'error',
    shows: /^PermissionError: \[Errno 13\] Permission denied$/m,
    reason:
      'It makes a TCP socket, if only to 127.0.0.1: a template without a network has no sockets but AF_UNIX.',
    tests: multiprocessing(
      'TestCloseFds.test_closefd',
      'TestTimeouts.test_timeout',
      'TestWait.test_wait_socket',
      'TestWait.test_wait_socket_slow',
      'WithManagerTestManagerRestart.test_rapid_restart',
      'WithProcessesTestListener.test_multiple_bind',
      'WithProcessesTestListenerClient.test_issue16955',
      'WithProcessesTestListenerClient.test_listener_client',
      'WithProcessesTestManagerRestart.test_rapid_restart',
      'WithThreadsTestManagerRestart.test_rapid_restart',
    ),
  },
  {
    verdict: 'error',
    shows: /^EOFError$/m,
    reason:
      'Its child makes a TCP socket on 127.0.0.1, which a template without a network refuses, and ends; the case sees the end.',
    tests: multiprocessing(
      'WithManagerTestRemoteManager.test_remote',
      'WithProcessesTestPicklingConnections.test_pickling',
    ),
  },
  {
    verdict: 'skipped',
    shows: /^No identified group name to use for this test/,
    reason:
      "It looks for the groups `nogroup` or `staff`: a sandbox's /etc/group names root and the sandbox's own.",
    tests: [
      'test.test_subprocess.POSIXProcessTestCase.test_extra_groups',
      'test.test_subprocess.POSIXProcessTestCase.test_group',
    ],
  },
  {
    verdict: 'error',
    shows: /\(user=65534, [\s\S]*^OSError: \[Errno 22\] Invalid argument$/m,
    reason:
      'It becomes UID 65534 and expects success or EPERM: a sandbox has one user, and others are EINVAL to the kernel.',
    tests: ['test.test_subprocess.POSIXProcessTestCase.test_user'],
  },
  {
    verdict: 'ok',
    shows: /^failed to reach the file descriptor limit/,
    reason:
      'It wants to run out of descriptors and skips itself where 1,026 are not too many: the template allows 1,024.',
    tests: [
      'test.test_subprocess.ProcessTestCase.test_no_leaking',
      'test.test_subprocess.ProcessTestCaseNoPoll.test_no_leaking',
    ],
  },
];
