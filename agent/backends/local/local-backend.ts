import { chown, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Failure } from '../../../shared/errors.ts';
import { mbToBytes, parseTemplate, type Template } from '../../../shared/template.ts';
import type { Clock } from '../../clock.ts';
import { orAborted } from '../../deadline.ts';
import type { Log } from '../../log.ts';
import { type RunnerPlace, runnerConfig } from '../../runner/runner-config.ts';
import type { Backend, Sandbox, SandboxOptions } from '../backend.ts';
import { findInterpreter, type Interpreter } from './find-interpreter.ts';
import { createMemoryGroups, type MemoryGroup } from './memory-groups.ts';
import type { SandboxUser } from './sandbox-command.ts';
import {
  makeBareWorkspace,
  removeBareWorkspace,
  type SandboxProcess,
  startSandboxProcess,
} from './sandbox-process.ts';
import { createSandboxUids } from './sandbox-uids.ts';
import { takeUidRange } from './uid-range.ts';

/** `/tmp` and `/dev/shm`. */
const LOCAL_SCRATCH_PLACES = 2;

export type LocalBackendDeps = {
  /** Name of this run of the agent. */
  instance: string;
  /** Where interpreters are looked for, as in PATH. */
  path: string;
  /** Allows sandboxes without namespaces where the machine grants none. Everything in them runs beside the agent. */
  unsafe: boolean;
  /** A control group below which each sandbox has one of its own, with a limit to all of its memory. */
  memoryCgroup?: string | undefined;
  /** Gives up what is asked of the machine before there is a backend. */
  signal?: AbortSignal | undefined;
  clock: Clock;
  log: Log;
  platform?: NodeJS.Platform;
  find?: typeof findInterpreter;
};

/** `gone` also waits for what the sandbox left on the disk. */
type Held = { sandbox: Sandbox; process: SandboxProcess; gone: Promise<void> };

/**
 * Sandboxes on this machine, made of namespaces: for development. Rejects with `backend_unavailable` where the machine
 * refuses them; the sentence names the setting. Never call it in a worker thread: sandboxes die with the thread that
 * made them.
 */
export async function createLocalBackend(deps: LocalBackendDeps): Promise<Backend> {
  const { instance, clock, log, unsafe, find = findInterpreter } = deps;
  if ((deps.platform ?? process.platform) !== 'linux') {
    throw new Failure(
      'backend_unavailable',
      'The local backend needs Linux: use the Docker backend here (EXECUTOR_BACKEND=docker).',
    );
  }
  const isRoot = process.getuid?.() === 0;
  const groups = deps.memoryCgroup === undefined ? undefined : await createMemoryGroups(deps.memoryCgroup);
  // An ordinary user has one UID for all.
  const range = isRoot ? await takeUidRange() : undefined;
  const uids = range && createSandboxUids(range);
  const held = new Map<string, Held>();
  const interpreters = new Map<string | undefined, Promise<Interpreter>>();
  const ended = new AbortController();
  const making = new Set<Promise<unknown>>();
  const probed = interpreterFor(await parseTemplate({ name: 'probe' }));
  const found = deps.signal ? orAborted(probed, deps.signal) : probed;
  const { namespaces } = await found.catch(async (error) => {
    // Without this, an interpreter that does not answer would keep the process.
    ended.abort(error);
    await range?.release();
    throw error;
  });

  /** Found once for each name; what was not found is looked for again. */
  function interpreterFor(template: Template): Promise<Interpreter> {
    const known = interpreters.get(template.python);
    if (known) return known;
    const finding = findFor(template);
    interpreters.set(template.python, finding);
    finding.catch(() => interpreters.delete(template.python));
    return finding;
  }

  async function findFor({ python }: Template): Promise<Interpreter> {
    const runner = runnerConfig(await parseTemplate({ name: 'probe' }), { place: 'fresh', attach: 'stdio' });
    const user = range && userOf(range.first);
    const options = { python, path: deps.path, user, runner, signal: ended.signal };
    try {
      return await find({ ...options, namespaces: true });
    } catch (error) {
      if (!unsafe || ended.signal.aborted) throw error;
      const found = await find({ ...options, namespaces: false });
      log('local_backend_unsafe', { python: found.path, cause: error });
      return found;
    }
  }

  function create(...given: Parameters<Backend['create']>): Promise<Sandbox> {
    const made = make(...given);
    making.add(made);
    const over = () => making.delete(made);
    made.then(over, over);
    return made;
  }

  async function make(
    template: Template,
    signal: AbortSignal,
    options: SandboxOptions = {},
  ): Promise<Sandbox> {
    signal.throwIfAborted();
    ended.signal.throwIfAborted();
    if (template.network !== 'none') {
      throw new Failure(
        'policy_denied',
        `Local sandboxes have no network: give the template '${template.name}' network none, or another backend.`,
      );
    }
    const interpreter = await orAborted(interpreterFor(template), signal);
    // Without a network namespace the filter is all that keeps it from this machine's network.
    if (options.unfiltered && !interpreter.namespaces)
      throw new Failure('policy_denied', 'Without namespaces a local sandbox keeps its filter.');
    const own = template.uid === undefined ? uids?.take() : undefined;
    const uid = own ?? template.uid;
    const user = isRoot && uid !== undefined ? userOf(uid) : undefined;
    const bare = interpreter.namespaces ? undefined : await mkdtemp(join(tmpdir(), 'podgate-'));
    let started: SandboxProcess | undefined;
    let group: MemoryGroup | undefined;
    const discard = async () => {
      await started?.end();
      await group?.remove();
      if (bare !== undefined) await removeBareWorkspace(bare);
      if (own !== undefined) uids?.release(own);
    };
    try {
      const runner = runnerConfig(template, await placeOf(template, bare, user), options);
      const config = { runner, parent: process.pid, namespaces: interpreter.namespaces };
      group = await groups?.make(groupBytes(template));
      started = await startSandboxProcess({ python: interpreter.path, user, config, clock, group });
      // Nobody would end what is made for who has gone, or after the end.
      signal.throwIfAborted();
      ended.signal.throwIfAborted();
    } catch (error) {
      await discard();
      throw error;
    }
    const sandbox: Sandbox = {
      id: started.id,
      template: template.name,
      templateHash: template.hash,
      instance,
      createdAtMs: clock.wall(),
    };
    const keeper = started;
    const gone = keeper.gone.then(async () => {
      const words = keeper.words();
      if (words !== '') log('sandbox_stderr', { sandbox: sandbox.id, words });
      await discard().catch((cause) => log('sandbox_left_behind', { sandbox: sandbox.id, cause }));
      held.delete(sandbox.id);
    });
    held.set(sandbox.id, { sandbox, process: keeper, gone });
    return sandbox;
  }

  async function connect(sandbox: Sandbox, signal: AbortSignal) {
    signal.throwIfAborted();
    const stream = held.get(sandbox.id)?.process.takeStream();
    if (!stream)
      throw new Failure('sandbox_lost', 'The sandbox is gone, or its one stream was taken before.');
    return stream;
  }

  async function destroy(sandbox: Sandbox): Promise<void> {
    const entry = held.get(sandbox.id);
    await entry?.process.end();
    await entry?.gone;
  }

  async function close(): Promise<void> {
    ended.abort(new Failure('draining', 'The local backend is closed.'));
    await Promise.allSettled(making);
    await Promise.all([...held.values()].map(({ sandbox }) => destroy(sandbox)));
    await range?.release();
  }

  return {
    kind: 'local',
    reconnects: false,
    freshPerExecution: namespaces,
    create,
    connect,
    destroy,
    // What a dead instance had died with it: the kernel saw to that.
    list: async () => [...held.values()].map(({ sandbox }) => sandbox),
    close,
  };
}

function userOf(uid: number): NonNullable<SandboxUser> {
  return { uid, gid: uid };
}

/** All that a sandbox may hold at once: its program's memory, every tmpfs, the interpreter and what it has imported. */
function groupBytes({ resources, local }: Template): number {
  const { memory_mb, workspace_mb, tmp_mb } = resources;
  return mbToBytes(memory_mb + workspace_mb + LOCAL_SCRATCH_PLACES * tmp_mb + local.base_memory_mb);
}

async function placeOf(
  template: Template,
  bare: string | undefined,
  user: SandboxUser,
): Promise<RunnerPlace> {
  // The agent's own cgroup is the only one to be seen here, and it is not the sandbox's.
  const common = { attach: 'stdio', cgroup_root: '/nonexistent' } as const;
  if (bare === undefined) return { ...common, place: template.reuse === 'single_use' ? 'fresh' : 'shared' };
  const made = await makeBareWorkspace(bare);
  if (user) {
    for (const path of [bare, made.workspace, ...made.scratch]) await chown(path, user.uid, user.gid);
  }
  return { ...common, ...made, place: 'shared' };
}
