import { removeContainer } from '../../agent/backends/docker/containers.ts';
import { WORKSPACE } from '../../agent/backends/runner-place.ts';
import { createRunnerClient } from '../../agent/runner/client.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { createTestEngine, ENGINE_HOST, engineTraits } from './docker-engine.ts';
import {
  descriptorsOf,
  isWaiting,
  processesBelow,
  residentBytes,
  type Sandbox,
  type SandboxOptions,
} from './runner-process.ts';
import { runOn } from './runner-run.ts';
import type { SandboxKind } from './sandbox-kind.ts';

const CREATE_TIMEOUT_MS = 30_000;
const WORKSPACE_MB = 128;
const INODES_PER_MB = 256;

const traits = await engineTraits();

/** The sandboxes of the runner's own tests as containers, made by the backend from a template. */
export const CONTAINERS: SandboxKind = {
  pythons: ['in a container'],
  trouble(_python, { config, env, workspaceMount = '' }) {
    if (!ENGINE_HOST?.startsWith('unix:')) return 'the processes of its containers are on another machine';
    if (config !== undefined || env !== undefined) return 'no template asks the runner for that';
    if (!traits.boundsFiles && /nr_inodes/.test(workspaceMount))
      return 'its engine bounds files by memory alone';
    return undefined;
  },
  create: createContainerSandbox,
};

async function createContainerSandbox({ workspaceMount }: SandboxOptions): Promise<Sandbox> {
  const engine = createTestEngine();
  const backend = await engine.backend();
  const input: Partial<TemplateInput> = {
    languages: ['python', 'bash', 'node'],
    reuse: 'reset',
    resources: {
      cpu_seconds: 20,
      cpus: 2,
      workspace_mb: workspaceMb(workspaceMount),
      tmp_mb: 128,
    },
    docker: { shm_mb: 128 },
  };
  const signal = AbortSignal.timeout(CREATE_TIMEOUT_MS);
  const made = await backend.create(await engine.template(input), signal);
  const stream = await backend.connect(made, signal);
  const client = createRunnerClient({ stream, epoch: 1 });
  const ready = await client.ready;
  const { State, Config } = await engine.client.call<{ State: { Pid: number }; Config: { User: string } }>({
    method: 'GET',
    path: `/containers/${made.id}/json`,
  });
  const pid = State.Pid;
  const found = () => processesBelow(pid).filter((process) => !isWaiting(process, pid));
  const processes = () => found().filter((process) => !process.leaving);
  const remains = () => found().filter((process) => !own.has(process.pid));
  const own = new Set(processes().map((process) => process.pid));
  const exited = Promise.withResolvers<void>();
  let lastStream = 0;
  let said = '';
  return {
    python: 'python3',
    workspace: WORKSPACE,
    pid,
    uid: Number.parseInt(Config.User, 10),
    client,
    ready,
    stream,
    run(code, options = {}) {
      lastStream += 1;
      return runOn(client, lastStream, code, options);
    },
    processes,
    strays: () => processes().filter((process) => !own.has(process.pid)),
    remains,
    waiting: () => processesBelow(pid).find((process) => isWaiting(process, pid)),
    runnerDescriptors: () => descriptorsOf([...own]),
    runnerMemoryBytes: () => [...own].reduce((sum, each) => sum + residentBytes(each), 0),
    attach: () => {
      throw new Error('the backend attaches to a container');
    },
    intrude: () => Promise.reject(new Error('a container is entered by its engine')),
    neighbour: () => Promise.reject(new Error('a container is entered by its engine')),
    log: () => said,
    exited: exited.promise,
    async [Symbol.asyncDispose]() {
      const query = { stdout: 'true', stderr: 'true' };
      said = await engine.client.text({ method: 'GET', path: `/containers/${made.id}/logs`, query });
      client.close();
      await removeContainer(engine.client, made.id);
      await engine[Symbol.asyncDispose]();
      exited.resolve();
    },
  };
}

/** A container's workspace has an inode for each of its pages: few inodes are a small one. */
function workspaceMb(mount = ''): number {
  const inodes = /nr_inodes=(\d+)/.exec(mount)?.[1];
  if (inodes !== undefined) return Math.ceil(Number(inodes) / INODES_PER_MB);
  return Number(/size=(\d+)m/.exec(mount)?.[1] ?? WORKSPACE_MB);
}
