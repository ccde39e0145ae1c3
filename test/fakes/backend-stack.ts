import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readAgentConfig } from '../../agent/config.ts';
import { startConfiguredAgent } from '../../agent/run-agent.ts';
import type { RunningAgent } from '../../agent/start-agent.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { type Entry, type Stack, startStack } from './stack.ts';

export type BackendStack = AsyncDisposable & {
  readonly stack: Stack;
  readonly cluster: string;
  readonly agent: RunningAgent;
  readonly log: readonly Entry[];
};

export type BackendStackOptions = {
  cluster: string;
  templates: readonly TemplateInput[];
  /** EXECUTOR_BACKEND and what goes with it. */
  environment: Readonly<Record<string, string>>;
};

/** A gateway, and one agent with whatever backend, both in this process. */
export async function startBackendStack(options: BackendStackOptions): Promise<BackendStack> {
  const { cluster, templates, environment } = options;
  await using opened = new AsyncDisposableStack();
  const stack = opened.use(await startStack({ agents: [] }));
  const file = join(stack.dir, 'templates.yaml');
  await writeFile(file, JSON.stringify({ templates }));
  const log: Entry[] = [];
  const agent = await startConfiguredAgent({
    config: readAgentConfig({
      environment: {
        PATH: process.env.PATH ?? '',
        PODGATE_GATEWAY_URL: stack.url,
        PODGATE_AGENT_TOKEN: await stack.agentToken(cluster),
        PODGATE_AGENT_PORT: '0',
        PODGATE_TEMPLATES: file,
        // Its sandboxes would be beside those that are counted.
        PODGATE_CANARY: 'off',
        ...environment,
      },
    }),
    software: 'podgate/test',
    log: (event, fields) => void log.push({ of: 'agent', event, ...fields }),
  });
  opened.defer(() => agent.close());
  await stack.warm([cluster]);
  const held = opened.move();
  return { stack, cluster, agent, log, [Symbol.asyncDispose]: () => held.disposeAsync() };
}
