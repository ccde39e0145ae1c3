import type { Clock } from '../../clock.ts';
import type { ClusterFacts } from '../../cluster.ts';
import type { AgentConfig } from '../../config.ts';
import type { Log } from '../../log.ts';
import type { Backend } from '../backend.ts';
import { createLateBackend } from '../late-backend.ts';
import { createDockerBackend, type DockerBackend } from './docker-backend.ts';
import { engineAddress } from './engine-address.ts';
import { createEngineClient } from './engine-client.ts';
import { ownMark } from './process-mark.ts';

export type DockerClusterDeps = {
  config: Pick<AgentConfig, 'docker' | 'unsafe'>;
  instance: string;
  clock: Clock;
  random: () => number;
  log: Log;
};

/**
 * The engine that the configuration names, which need not run yet. Throws a Failure (`invalid_request`) when what names it
 * cannot be understood.
 */
export function createDockerCluster(deps: DockerClusterDeps): {
  readonly backend: Backend;
  facts(): ClusterFacts;
} {
  const { config, instance, clock, random, log } = deps;
  const client = createEngineClient(engineAddress(config.docker));
  const late = createLateBackend<DockerBackend>({
    kind: 'docker',
    reconnects: true,
    freshPerExecution: false,
    what: `the engine at ${client.shown}`,
    open: (signal) =>
      createDockerBackend({
        signal,
        client,
        installation: config.docker.installation,
        instance,
        mark: ownMark(),
        isUnsafe: config.unsafe,
        clock,
        random,
        log,
      }),
    clock,
    random,
    log,
  });
  return {
    backend: { ...late.backend, close: () => late.backend.close().finally(client.close) },
    facts: () => ({
      kubernetes_version: null,
      impaired: null,
      unavailable: late.trouble ?? late.opened?.trouble ?? null,
    }),
  };
}
