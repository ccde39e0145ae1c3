import { expect, test } from 'vitest';
import { runnerConfig } from '../../agent/runner/runner-config.ts';
import { parseTemplate } from '../../shared/template.ts';

test('a template says everything but the place', async () => {
  const template = await parseTemplate({
    name: 'science',
    languages: ['python', 'node'],
    preload: ['pandas'],
    network: 'cluster',
    require: ['seccomp', 'landlock'],
    resources: {
      memory_mb: 512,
      cpu_seconds: 7,
      processes: 9,
      open_files: 99,
      file_mb: 3,
      workspace_mb: 5,
      tmp_mb: 6,
    },
  });
  expect(runnerConfig(template, { place: 'fresh', attach: 'stdio' })).toEqual({
    languages: ['python', 'node'],
    preload: ['pandas'],
    network: true,
    threads: 1,
    workspace_bytes: 5_242_880,
    tmp_bytes: 6_291_456,
    limits: {
      memory_bytes: 536_870_912,
      cpu_seconds: 7,
      processes: 9,
      open_files: 99,
      file_bytes: 3_145_728,
    },
    require: ['seccomp', 'landlock'],
    place: 'fresh',
    attach: 'stdio',
  });
});

test('a template without words has no network and requires seccomp', async () => {
  const config = runnerConfig(await parseTemplate({ name: 'plain' }), { place: 'shared', attach: 'socket' });
  expect(config).toMatchObject({ network: false, require: ['seccomp'], place: 'shared', attach: 'socket' });
});

test.for([
  [{}, 1],
  [{ cpus: 4 }, 1],
  [{ cpus: 4, memory_mb: 511 }, 1],
  [{ cpus: 4, memory_mb: 512 }, 2],
  [{ cpus: 1.5, memory_mb: 4_096 }, 2],
  [{ cpus: 0.05, memory_mb: 16 }, 1],
  [{ cpus: 64, memory_mb: 65_536 }, 64],
] as const)('libraries are told of the threads that %j has room for: %i', async ([resources, threads]) => {
  const template = await parseTemplate({ name: 'plain', resources });
  expect(runnerConfig(template, { place: 'shared', attach: 'stdio' }).threads).toBe(threads);
});
