import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { startDockerAgent } from '../fakes/docker-agent.ts';
import { ENGINE_IMAGE, openEngine } from '../fakes/docker-engine.ts';
import { type Stack, startStack } from '../fakes/stack.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 60_000 });

const IN_FLIGHT = 32;
const pool = { min: 4, max: 8 };
const client = openEngine();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ agents: [] });
});
afterAll(async () => {
  await stack?.[Symbol.asyncDispose]();
  client.close();
});

/** Says what it was told on both streams, leaves a file, and ends with a status of its own. */
const program = (n: number) => `
import sys
sys.stdout.write('out ${n} ' * 100)
sys.stderr.write('error ${n}')
open('file-${n}', 'w').write('content ${n}')
sys.exit(${n % 7} + int(input()))
`;

async function isRight(template: string, n: number): Promise<boolean> {
  const ran = await stack.run(program(n), {
    template,
    stdin: `${n % 5}\n`,
    timeout_ms: 30_000,
    queue_timeout_ms: 120_000,
  });
  return (
    ran.stdout === `out ${n} `.repeat(100) &&
    ran.stderr === `error ${n}` &&
    ran.exit_code === (n % 7) + (n % 5) &&
    ran.files.map(({ path }) => path).join() === `file-${n}`
  );
}

// bench/figures/docker.ts does the same with a thousand of each.
test.for([
  ['single_use', 48],
  ['reset', 160],
] as const)(
  '32 in flight with reuse %s are all answered right, and leave no container',
  async ([reuse, total]) => {
    const cluster = `load-${reuse.replace('_', '-')}`;
    const templates = [{ name: reuse.replace('_', '-'), image: ENGINE_IMAGE, reuse, pool }];
    const agent = await startDockerAgent({ stack, client, cluster, templates });
    await stack.warm([cluster]);
    let next = 0;
    const wrong: number[] = [];
    await Promise.all(
      Array.from({ length: IN_FLIGHT }, async () => {
        while (next < total) {
          const n = next++;
          if (!(await isRight(templates[0]?.name as string, n))) wrong.push(n);
        }
      }),
    );
    expect(wrong).toEqual([]);
    await agent.end();
    expect(await agent.containers()).toEqual([]);
  },
);
