import { Failure } from '../../shared/errors.ts';
import type { Template } from '../../shared/template.ts';
import type { Backend, SandboxOptions } from '../backends/backend.ts';
import type { Clock } from '../clock.ts';
import { createDeadline, orAborted } from '../deadline.ts';
import type { Log } from '../log.ts';
import { createRunnerClient, type RunnerClient } from '../runner/client.ts';

/** A sandbox of a canary's own may take so long to be made and to be ready. */
export const OWN_SANDBOX_TIMEOUT_MS = 60_000;

/** A sandbox beside the pool's. Its end destroys it. */
export type OwnSandbox = AsyncDisposable & { readonly runner: RunnerClient };

export type OwnSandboxDeps = { backend: Backend; clock: Clock; log: Log };

/** Makes one. Rejects with the backend's Failure, and then nothing is left of it. */
export async function openOwnSandbox(
  { backend, clock, log }: OwnSandboxDeps,
  template: Template,
  options: SandboxOptions,
  outer: AbortSignal,
): Promise<OwnSandbox> {
  const late = () => new Failure('backend_unavailable', 'A sandbox for the canary took too long to make.');
  using deadline = createDeadline(clock, OWN_SANDBOX_TIMEOUT_MS, late, outer);
  const { signal } = deadline;
  const sandbox = await backend.create(template, signal, options);
  let runner: RunnerClient | undefined;
  let ended = false;
  async function end(): Promise<void> {
    if (ended) return;
    ended = true;
    runner?.close();
    try {
      await backend.destroy(sandbox);
    } catch (cause) {
      log('sandbox_left_behind', { template: template.name, sandbox: sandbox.id, cause });
    }
  }
  try {
    const stream = await orAborted(backend.connect(sandbox, signal), signal);
    runner = createRunnerClient({ stream, epoch: 1 });
    runner.ready.catch(() => {});
    const ready = await orAborted(runner.ready, signal);
    if (!ready.ok)
      throw new Failure(
        'isolation_failed',
        `The sandbox lacks what its template requires: ${ready.missing[0] ?? ''}`,
      );
    return { runner, [Symbol.asyncDispose]: end };
  } catch (cause) {
    await end();
    throw cause;
  }
}
