import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { type Container, listContainers, removeContainer } from '../../agent/backends/docker/containers.ts';
import type { EngineClient } from '../../agent/backends/docker/engine-client.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { ENGINE_VARIABLES } from './docker-engine.ts';
import type { Stack } from './stack.ts';

const PROCESS = fileURLToPath(new URL('agent-process.ts', import.meta.url));

/** An agent with the Docker backend, a process of its own and an installation of its own. */
export type DockerAgent = {
  readonly child: ChildProcess;
  /** Everything of its installation on the engine, in whatever state. */
  containers(): Promise<Container[]>;
  /** SIGTERM, and its exit. */
  end(): Promise<void>;
};

export type DockerAgentOptions = {
  stack: Stack;
  client: EngineClient;
  /** Also names the installation. */
  cluster: string;
  templates?: readonly TemplateInput[];
  variables?: Readonly<Record<string, string>>;
};

/** It is killed when its test ends, if that did not end it. */
export async function startDockerAgent(options: DockerAgentOptions): Promise<DockerAgent> {
  const { stack, client, cluster, templates, variables } = options;
  const installation = `agent-test-${cluster}`;
  const file = join(stack.dir, `${cluster}.yaml`);
  if (templates) await writeFile(file, JSON.stringify({ templates }));
  const env = {
    PATH: process.env.PATH ?? '',
    ...ENGINE_VARIABLES,
    PODGATE_INSTALLATION: installation,
    PODGATE_GATEWAY_URL: stack.url,
    PODGATE_AGENT_TOKEN: await stack.agentToken(cluster),
    PODGATE_CLUSTER: cluster,
    PODGATE_AGENT_PORT: '0',
    // Never the defaults: those are addresses of others.
    PODGATE_CANARY_TARGETS: 'none',
    ...(templates ? { PODGATE_TEMPLATES: file } : { POOL_SIZE: '2' }),
    ...variables,
  };
  const child = spawn(process.execPath, [PROCESS], { env, stdio: 'ignore' });
  const containers = () => listContainers(client, { installation });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    for (const { Id } of await containers()) await removeContainer(client, Id);
  });
  return {
    child,
    containers,
    async end() {
      child.kill('SIGTERM');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    },
  };
}
