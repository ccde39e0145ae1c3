import { randomUUID } from 'node:crypto';
import {
  createDockerBackend,
  type DockerBackend,
  type DockerBackendDeps,
} from '../../agent/backends/docker/docker-backend.ts';
import { engineAddress } from '../../agent/backends/docker/engine-address.ts';
import { createEngineClient, type EngineClient } from '../../agent/backends/docker/engine-client.ts';
import { PRODUCT_TRAITS, type ProductTraits } from '../../agent/backends/docker/engine-product.ts';
import { ownMark } from '../../agent/backends/docker/process-mark.ts';
import { parseTemplate, type Template, type TemplateInput } from '../../shared/template.ts';
import { testClock } from './test-clock.ts';

/** The engine that tests may make containers on, and the image they are made from: any with python3. */
export const ENGINE_HOST = process.env.PODGATE_TEST_DOCKER_HOST;
export const ENGINE_IMAGE = process.env.PODGATE_TEST_DOCKER_IMAGE ?? 'podgate-sandbox';
/** For an engine that bounds nothing, such as one without root: a test of what else holds there. */
const TAKES_UNBOUND = process.env.PODGATE_TEST_DOCKER_UNSAFE === 'true';
/** Of an agent on the tests' engine. */
export const ENGINE_VARIABLES: Readonly<Record<string, string>> = {
  EXECUTOR_BACKEND: 'docker',
  DOCKER_HOST: ENGINE_HOST ?? '',
  DOCKER_IMAGE: ENGINE_IMAGE,
  ...(TAKES_UNBOUND ? { PODGATE_UNSAFE: 'true' } : {}),
};
/** For the tests in another runtime than the engine's own, such as gVisor's `runsc`. */
export const RUNTIME = process.env.PODGATE_TEST_DOCKER_RUNTIME
  ? { runtime: process.env.PODGATE_TEST_DOCKER_RUNTIME }
  : {};

export function openEngine(host = ENGINE_HOST, certPath?: string): EngineClient {
  const settings = { host, tlsVerify: certPath !== undefined, certPath, sockets: [] };
  return createEngineClient(engineAddress(settings));
}

/** What the tests' engine has that other engines lack. */
export async function engineTraits(): Promise<ProductTraits> {
  const client = openEngine();
  try {
    return PRODUCT_TRAITS[(await client.negotiate()).product];
  } finally {
    client.close();
  }
}

/** An installation of its own on the engine: nothing of it is there when it ends. */
export type TestEngine = AsyncDisposable & {
  readonly client: EngineClient;
  readonly installation: string;
  template(input?: Partial<TemplateInput>): Promise<Template>;
  /** A backend of an instance of its own; closed with the engine. */
  backend(options?: Partial<DockerBackendDeps>): Promise<DockerBackend>;
};

export const ENGINE_TEMPLATE = {
  image: ENGINE_IMAGE,
  resources: { memory_mb: 64, workspace_mb: 8, tmp_mb: 8, cpus: 1 },
};

export function createTestEngine(host = ENGINE_HOST, certPath?: string): TestEngine {
  const client = openEngine(host, certPath);
  const installation = `test-${randomUUID()}`;
  const backends: DockerBackend[] = [];
  return {
    client,
    installation,
    template: (input = {}) =>
      parseTemplate({
        name: 'default',
        ...ENGINE_TEMPLATE,
        ...input,
        docker: { ...RUNTIME, ...input.docker },
      }),
    async backend(options = {}) {
      const backend = await createDockerBackend({
        client,
        installation,
        instance: randomUUID(),
        mark: ownMark(),
        isUnsafe: TAKES_UNBOUND,
        clock: testClock,
        random: Math.random,
        log: () => {},
        ...options,
      });
      backends.push(backend);
      return backend;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(backends.map((backend) => backend.close()));
      client.close();
    },
  };
}
