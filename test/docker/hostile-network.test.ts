import { vi } from 'vitest';
import { CONTAINERS } from '../fakes/container-sandbox.ts';
import { useSandboxKind } from '../fakes/sandbox-kind.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });
useSandboxKind(CONTAINERS);
await import('../system/runner/network.test.ts');
