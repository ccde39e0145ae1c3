import type { Backend, Sandbox, SandboxEnd } from '../../agent/backends/backend.ts';
import { Failure } from '../../shared/errors.ts';
import type { Template } from '../../shared/template.ts';
import { createFakeRunner, type FakeRunner } from './fake-runner.ts';

export type FakeSandbox = {
  readonly sandbox: Sandbox;
  /** The newest: a stream that replaces another leads to one of its own. */
  runner: FakeRunner;
  streams: number;
  destroyed: boolean;
};

/** A backend whose sandboxes are objects. Creations wait where `hold` says so. */
export type FakeBackend = Backend & {
  /** Every sandbox ever made, in order. */
  readonly made: FakeSandbox[];
  readonly alive: FakeSandbox[];
  /** The most that existed or were on their way at once. */
  readonly peak: number;
  /** Rejects creations while set. */
  failure: Failure | undefined;
  /** Creations wait for `release`. */
  hold: boolean;
  readonly held: number;
  release(): void;
  /** Made right before a runner is connected to: the place to change its answers. */
  onRunner: (runner: FakeRunner) => void;
  destroyFailures: number;
  /** What endOf() says, where the backend reconnects. */
  end: SandboxEnd | undefined;
  /** Rejects streams that replace another while set. */
  unreachable: boolean;
  creations: number;
  /** Says that sandboxes may be made again. */
  reachable(): void;
  /** How many listen for that. */
  readonly listeners: number;
  closed: boolean;
};

export function createFakeBackend(
  options: { freshPerExecution?: boolean; reconnects?: boolean } = {},
): FakeBackend {
  const { freshPerExecution = true, reconnects = false } = options;
  const made: FakeSandbox[] = [];
  const waiting: (() => void)[] = [];
  const listeners = new Set<() => void>();
  let onTheirWay = 0;
  let peak = 0;

  async function create(template: Template, signal: AbortSignal): Promise<Sandbox> {
    backend.creations += 1;
    onTheirWay += 1;
    peak = Math.max(peak, onTheirWay + backend.alive.length);
    try {
      if (backend.hold)
        await new Promise<void>((resolve, reject) => {
          waiting.push(resolve);
          signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        });
      if (backend.failure) throw backend.failure;
      signal.throwIfAborted();
    } finally {
      onTheirWay -= 1;
    }
    const { name, hash } = template;
    const id = `sandbox-${made.length + 1}`;
    const sandbox: Sandbox = { id, template: name, templateHash: hash, instance: 'test', createdAtMs: 0 };
    const runner = createFakeRunner();
    backend.onRunner(runner);
    made.push({ sandbox, runner, streams: 0, destroyed: false });
    return sandbox;
  }

  function find({ id }: Sandbox): FakeSandbox {
    const found = made.find(({ sandbox }) => sandbox.id === id);
    if (!found || found.destroyed) throw new Failure('sandbox_lost', 'gone');
    return found;
  }

  const backend: FakeBackend = {
    kind: 'local',
    reconnects,
    freshPerExecution,
    create,
    async connect(sandbox) {
      const found = find(sandbox);
      if (reconnects && found.streams > 0) {
        if (backend.unreachable) throw new Failure('backend_unavailable', 'no way');
        found.runner = createFakeRunner({ epoch: found.streams + 1 });
        backend.onRunner(found.runner);
      }
      found.streams += 1;
      return found.runner.stream;
    },
    ...(reconnects ? { endOf: async () => backend.end } : {}),
    async destroy(sandbox) {
      if (backend.destroyFailures > 0) {
        backend.destroyFailures -= 1;
        throw new Error('the cluster does not answer');
      }
      const found = made.find((one) => one.sandbox.id === sandbox.id);
      if (!found) return;
      found.destroyed = true;
      found.runner.die();
    },
    onReachable(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    reachable() {
      for (const listener of listeners) listener();
    },
    get listeners() {
      return listeners.size;
    },
    list: async () => backend.alive.map(({ sandbox }) => sandbox),
    async close() {
      backend.closed = true;
    },
    made,
    get alive() {
      return made.filter(({ destroyed }) => !destroyed);
    },
    get peak() {
      return peak;
    },
    failure: undefined,
    hold: false,
    get held() {
      return waiting.length;
    },
    release() {
      backend.hold = false;
      for (const go of waiting.splice(0)) go();
    },
    onRunner: () => {},
    destroyFailures: 0,
    end: undefined,
    unreachable: false,
    creations: 0,
    closed: false,
  };
  return backend;
}
