import { describe, expect, test } from 'vitest';
import {
  EngineRefusal,
  isPassing,
  refusalOf,
  unreachable,
} from '../../../agent/backends/docker/engine-failure.ts';
import { Failure } from '../../../shared/errors.ts';

describe("an engine's refusal", () => {
  // Words of Docker 20.10, 24 and 28, containerd's image store, and Podman 4 and 5.
  test.for([
    [404, 'No such image: registry.example/none:1', 'image_error'],
    [404, 'registry.example/none:1: image not known', 'image_error'],
    [
      404,
      'pull access denied for none, repository does not exist or may require docker login',
      'image_error',
    ],
    [
      400,
      'failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/nonexistent/python3": stat /nonexistent/python3: no such file or directory: unknown',
      'image_error',
    ],
    [500, 'crun: executable file `/nonexistent/python3` not found: No such file or directory', 'image_error'],
    [
      400,
      'OCI runtime start failed: starting container: starting root container: starting sandbox: creating process: failed to load /nonexistent/python3: no such file or directory: unknown',
      'image_error',
    ],
    [500, 'exec format error', 'image_error'],
    [400, 'Unknown runtime specified runsc', 'isolation_failed'],
    [400, 'unknown or invalid runtime name: runsc', 'isolation_failed'],
    [500, 'requested OCI runtime runsc is not available: invalid argument', 'isolation_failed'],
    [
      400,
      'OCI runtime create failed: unable to retrieve OCI runtime error (open log.json: no such file or directory): fork/exec /usr/bin/runsc: no such file or directory: unknown',
      'isolation_failed',
    ],
    [500, 'mkdir /var/lib/docker/overlay2/x: no space left on device', 'unschedulable'],
    [500, 'write /var/lib/docker/x: disk quota exceeded', 'unschedulable'],
    [500, 'runc create failed: fork/exec /proc/self/exe: resource temporarily unavailable', 'unschedulable'],
    [500, 'cannot allocate memory: unknown', 'unschedulable'],
    [
      500,
      'container create: unknown mount option "nr_inodes=16384": invalid mount option',
      'isolation_failed',
    ],
    [
      500,
      'crun: cgroups in hybrid mode not supported, drop all controllers from cgroupv2: OCI runtime error',
      'isolation_failed',
    ],
    [500, 'crun: setrlimit `RLIMIT_NOFILE`: Operation not permitted: OCI permission denied', 'policy_denied'],
    [
      500,
      'runc: runc create failed: unable to start container process: error during container init: error setting rlimits for ready process: error setting rlimit type 7: operation not permitted: OCI permission denied',
      'policy_denied',
    ],
    [404, 'No such container: podgate-x', 'sandbox_lost'],
    [409, 'Container 12ab is not running', 'sandbox_lost'],
    [409, 'container 12ab is paused, unpause the container before exec', 'sandbox_lost'],
    [500, 'can only create exec sessions on running containers: container state improper', 'sandbox_lost'],
    [403, 'authorization denied by plugin opa', 'policy_denied'],
    [400, 'invalid CPU quota', 'policy_denied'],
    [409, 'Conflict. The container name "/x" is already in use', 'backend_unavailable'],
    [404, 'page not found', 'backend_unavailable'],
    [500, 'something else', 'backend_unavailable'],
    [503, '', 'backend_unavailable'],
  ] as [number, string, string][])('%i %s is %s', ([status, words, code]) => {
    const failure = refusalOf(status, words);
    expect(failure).toMatchObject({ code, httpStatus: status, words });
    // What callers are told holds none of the engine's words.
    expect(failure.detail).toMatch(/^[A-Z][^/]*\.$/);
  });

  test('may be tried again as it was where the engine itself failed, and where another change came first', () => {
    expect([400, 403, 404, 409, 500, 503].map((status) => isPassing(refusalOf(status, 'words')))).toEqual([
      false,
      false,
      false,
      true,
      true,
      true,
    ]);
    expect(isPassing(unreachable(new Error('reset')))).toBe(true);
    expect(isPassing(new Failure('image_error', 'x'))).toBe(false);
    expect(isPassing(new Error('x'))).toBe(false);
  });

  test('carries its words as the cause, for the log', () => {
    const failure = refusalOf(500, 'secret words');
    expect(failure).toBeInstanceOf(EngineRefusal);
    expect(String(failure.cause)).toContain('500: secret words');
  });
});

describe('an engine that does not answer', () => {
  test.for([
    [{ code: 'ENOENT' }, 'The engine cannot be reached: there is no such socket.'],
    [{ code: 'EACCES' }, 'The engine cannot be reached: the agent may not use its socket.'],
    [{ code: 'ECONNREFUSED' }, 'The engine cannot be reached: nothing listens there.'],
    [
      { code: 'ERR_TLS_CERT_ALTNAME_INVALID' },
      'The engine cannot be reached: its certificate is for another host.',
    ],
    [{ name: 'TimeoutError' }, 'The engine did not answer in time.'],
    [{}, 'The engine cannot be reached.'],
    [undefined, 'The engine cannot be reached.'],
  ] as [object | undefined, string][])('with %j is backend_unavailable: %s', ([cause, detail]) => {
    expect(unreachable(cause)).toMatchObject({ code: 'backend_unavailable', detail, retryable: true });
  });
});
