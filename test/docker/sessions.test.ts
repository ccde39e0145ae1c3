import { vi } from 'vitest';
import { listContainers, nameOf } from '../../agent/backends/docker/containers.ts';
import { sessionsContract } from '../contract/sessions.ts';
import { startBackendStack } from '../fakes/backend-stack.ts';
import { ENGINE_IMAGE, ENGINE_VARIABLES, openEngine } from '../fakes/docker-engine.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

const installation = `sessions-${crypto.randomUUID()}`;

async function sandboxes(): Promise<string[]> {
  const client = openEngine();
  try {
    return (await listContainers(client, { installation })).map(nameOf);
  } finally {
    client.close();
  }
}

sessionsContract('the Docker backend', {
  many: 12,
  template: { image: ENGINE_IMAGE },
  async open(templates) {
    const started = await startBackendStack({
      cluster: 'engine',
      templates,
      environment: {
        ...ENGINE_VARIABLES,
        PODGATE_INSTALLATION: installation,
        PODGATE_CLUSTER: 'engine',
      },
    });
    return {
      ...started,
      async [Symbol.asyncDispose]() {
        await started[Symbol.asyncDispose]();
        const left = await sandboxes();
        if (left.length > 0) throw new Error(`left: ${left}`);
      },
    };
  },
  sandboxes,
});
