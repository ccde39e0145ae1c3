import { afterAll, vi } from 'vitest';
import { backendContract } from '../contract/backend.ts';
import {
  createTestEngine,
  ENGINE_HOST,
  ENGINE_IMAGE,
  engineTraits,
  RUNTIME,
} from '../fakes/docker-engine.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const traits = await engineTraits();
const engines: AsyncDisposable[] = [];
afterAll(() => Promise.all(engines.map((engine) => engine[Symbol.asyncDispose]())));

backendContract(
  'the Docker backend',
  () => {
    const engine = createTestEngine();
    engines.push(engine);
    // Each backend is an installation of its own: what one makes, the other does not list.
    return engine.backend();
  },
  {
    template: { image: ENGINE_IMAGE, docker: RUNTIME },
    onThisMachine: ENGINE_HOST?.startsWith('unix:') ?? true,
    noDevices: true,
    // Another kernel than Linux need not heed nice.
    ownProcessor: RUNTIME?.runtime === undefined,
    imageRoot: true,
    endlessFiles: !traits.boundsFiles,
  },
);
