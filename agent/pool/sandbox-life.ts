import { Failure } from '../../shared/errors.ts';
import type { Template } from '../../shared/template.ts';
import type { Backend, Sandbox } from '../backends/backend.ts';
import type { Clock } from '../clock.ts';
import { createDeadline, orAborted } from '../deadline.ts';
import type { Log } from '../log.ts';
import type { RunnerClient, RunnerClientDeps } from '../runner/client.ts';
import type { Ready } from '../runner/messages.ts';
import type { PoolBounds } from './bounds.ts';
import type { SandboxEvent, SandboxState } from './sandbox-state.ts';
import { createSteadyRunner, type SandboxRunner } from './steady-runner.ts';

/** One place of a pool: a sandbox from the decision to make it until it is gone. */
export type Slot = {
  state: SandboxState;
  /** Hash of the template that it is made from. */
  readonly hash: string;
  readonly bornMs: number;
  /** Aborts what is under way for it. */
  readonly abort: AbortController;
  sandbox: Sandbox | undefined;
  runner: SandboxRunner | undefined;
  ready: Ready | undefined;
  /** The only principal that may have it: it has run that one's code and was reset since. */
  owner: string | undefined;
  lastStream: number;
  idleSinceMs: number;
};

export function newSlot(hash: string, bornMs: number): Slot {
  return {
    state: 'creating',
    hash,
    bornMs,
    abort: new AbortController(),
    sandbox: undefined,
    runner: undefined,
    ready: undefined,
    owner: undefined,
    lastStream: 0,
    idleSinceMs: 0,
  };
}

export type SandboxLifeDeps = {
  backend: Backend;
  clock: Clock;
  random: () => number;
  log: Log;
  bounds: PoolBounds;
  openRunner: (deps: RunnerClientDeps) => RunnerClient;
  /** Every step reports here, once. */
  report: (slot: Slot, event: SandboxEvent, failure?: Failure) => void;
};

/** What a sandbox does between the states of sandbox-state.ts: slow, fallible, and never on the way of an execution. */
export type SandboxLife = {
  create(slot: Slot, template: Template): Promise<void>;
  ping(slot: Slot): Promise<void>;
  reset(slot: Slot): Promise<void>;
  destroy(slot: Slot): Promise<void>;
};

export function createSandboxLife(deps: SandboxLifeDeps): SandboxLife {
  const { backend, report, clock, log, bounds } = deps;

  async function create(slot: Slot, template: Template): Promise<void> {
    const late = () => new Failure('backend_unavailable', 'A sandbox took too long to make.');
    using deadline = createDeadline(clock, bounds.createTimeoutMs, late, slot.abort.signal);
    try {
      // Awaited to its end even when aborted: whether there is a sandbox to destroy is the backend's to say.
      slot.sandbox = await backend.create(template, deadline.signal);
    } catch (error) {
      report(slot, 'create_failed', asFailure(error));
      return;
    }
    report(slot, 'created');
    if (slot.state === 'connecting') await connect(slot, slot.sandbox);
  }

  async function connect(slot: Slot, sandbox: Sandbox): Promise<void> {
    const late = () => new Failure('backend_unavailable', 'The runner of a sandbox was not ready in time.');
    using deadline = createDeadline(clock, bounds.readyTimeoutMs, late, slot.abort.signal);
    try {
      const stream = await orAborted(backend.connect(sandbox, deadline.signal), deadline.signal);
      slot.runner = createSteadyRunner({
        ...deps,
        sandbox,
        stream,
        onInterrupted: () => report(slot, 'interrupted'),
        onRestored: () => report(slot, 'restored'),
        onLost: (reason) => report(slot, 'lost', asFailure(reason)),
      });
      const ready = await orAborted(slot.runner.ready, deadline.signal);
      if (!ready.ok) {
        const missing = ready.missing
          .map((sentence) => sentence.replace(/\.$/, ''))
          .join('; ')
          .slice(0, 512);
        throw new Failure('isolation_failed', `The sandbox lacks what its template requires: ${missing}.`);
      }
      slot.ready = ready;
      report(slot, 'ready');
    } catch (error) {
      report(slot, 'connect_failed', asFailure(error));
    }
  }

  async function ping(slot: Slot): Promise<void> {
    const late = () => new Failure('sandbox_lost', 'The runner did not answer a PING.');
    using deadline = createDeadline(clock, bounds.pingTimeoutMs, late);
    try {
      await slot.runner?.ping(deadline.signal);
    } catch (error) {
      report(slot, 'ping_failed', asFailure(error));
    }
  }

  async function reset(slot: Slot): Promise<void> {
    const late = () => new Failure('sandbox_lost', 'The runner did not reset in time.');
    using deadline = createDeadline(clock, bounds.resetTimeoutMs, late);
    try {
      const done = await slot.runner?.reset(deadline.signal);
      if (done?.ok) report(slot, 'reset_done');
      else report(slot, 'reset_failed', leftovers(done?.leftovers ?? []));
    } catch (error) {
      report(slot, 'reset_failed', asFailure(error));
    }
  }

  async function destroy(slot: Slot): Promise<void> {
    const { sandbox } = slot;
    slot.abort.abort(new Failure('sandbox_lost', 'The sandbox was given up.'));
    slot.runner?.close();
    for (let tries = 1; sandbox !== undefined; tries += 1) {
      try {
        await backend.destroy(sandbox);
        break;
      } catch (cause) {
        const last = tries >= bounds.destroyTries;
        log(last ? 'sandbox_left_behind' : 'sandbox_destroy_failed', { sandbox: sandbox.id, tries, cause });
        if (last) break;
        await new Promise<void>((resolve) => clock.after(bounds.retryBaseMs * tries, resolve));
      }
    }
    report(slot, 'destroyed');
  }

  return { create, ping, reset, destroy };
}

/** A backend's rejection as what callers are told. What is no Failure of ours is `backend_unavailable`. */
function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  return new Failure('backend_unavailable', 'The backend could not make a sandbox.', { cause: error });
}

function leftovers(names: readonly string[]): Failure {
  return new Failure('sandbox_lost', 'The sandbox was not clean after its reset.', {
    cause: names.slice(0, 8),
  });
}
