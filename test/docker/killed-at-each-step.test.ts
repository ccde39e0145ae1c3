import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { labelOf } from '../../agent/backends/docker/containers.ts';
import { LABEL } from '../../agent/backends/labels.ts';
import { startDockerAgent } from '../fakes/docker-agent.ts';
import { ENGINE_IMAGE, openEngine } from '../fakes/docker-engine.ts';
import { type EngineDoor, type Moment, openEngineDoor, type Passing } from '../fakes/engine-door.ts';
import { type Stack, startStack } from '../fakes/stack.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

/** Most of it is the wait for an agent that does not come back, at each step. */
const IS_WANTED = process.env.PODGATE_TEST_LONG !== undefined;
const client = openEngine();
let stack: Stack;
let door: EngineDoor;
beforeAll(async () => {
  if (!IS_WANTED) return;
  stack = await startStack({ agents: [] });
  door = await openEngineDoor();
});
afterAll(async () => {
  await door?.[Symbol.asyncDispose]();
  await stack?.[Symbol.asyncDispose]();
  client.close();
});

const request = (method: string, path: RegExp) => (passing: Passing) =>
  passing.method === method && path.test(passing.path);
const frame = (name: string) => request('FRAME', new RegExp(`^${name}$`));

type Step = readonly [string, Moment, (passing: Passing) => boolean];
const CREATE = request('POST', /^\/containers\/create$/);
const STEPS: readonly Step[] = [
  ['while a container is asked for', 'asked', CREATE],
  ['when a container is made', 'done', CREATE],
  ['when its container is started', 'done', request('POST', /^\/containers\/[^/]+\/start$/)],
  ['when a program is handed over', 'done', frame('START')],
  ['amid a reset', 'done', frame('RESET')],
  ['before a container is removed', 'asked', request('DELETE', /^\/containers\//)],
];

describe('an agent that is killed', () => {
  test.for(STEPS)(
    '%s leaves no container to the next one, and its caller is told what is so',
    async ([name, moment, matches], { skip }) => {
      skip(!IS_WANTED, 'it takes four minutes: PODGATE_TEST_LONG=1 runs it');
      const cluster = `killed-${STEPS.findIndex(([each]) => each === name)}`;
      const reuse = name.includes('reset') ? ('reset' as const) : ('single_use' as const);
      const templates = [{ name: 'default', image: ENGINE_IMAGE, reuse, pool: { min: 1, max: 1 } }];
      const start = () =>
        startDockerAgent({
          stack,
          client,
          cluster,
          templates,
          variables: { PODGATE_CANARY: 'off', DOCKER_HOST: door.host },
        });
      const from = door.passed.length;
      const since = (what: (passing: Passing) => boolean) => door.passed.slice(from).filter(what);

      const holding = door.hold(moment, matches);
      const first = await start();
      await stack.warm([cluster]);
      const answering = stack.post('/v1/execute', {
        code: 'print(6 * 7)',
        cluster,
        queue_timeout_ms: 30_000,
      });
      const held = await holding;
      const wasHandedOver = since(frame('START')).length > 0;
      onTestFinished(held.release);
      first.child.kill('SIGKILL');
      await once(first.child, 'exit');

      const next = await start();
      // What the dead one asked for is carried out when the next one has looked.
      const looked = door.hold('done', request('GET', /^\/containers\/json$/));
      void looked.then(({ release }) => release());
      await looked;
      held.release();

      const answer = (await (await answering).json()) as Record<string, unknown>;
      if ('outcome' in answer)
        expect(answer).toMatchObject({ outcome: 'exited', stdout: '42\n', exit_code: 0 });
      else expect(wasHandedOver ? ['unknown', 'yes'] : ['unknown', 'no']).toContain(answer.started ?? 'no');

      await stack.warm([cluster]);
      expect((await stack.run('print(1)', { cluster, queue_timeout_ms: 30_000 })).stdout).toBe('1\n');
      const instances = async () =>
        new Set((await next.containers()).map((each) => labelOf(each, LABEL.instance))).size;
      await expect.poll(instances, { timeout: 30_000 }).toBeLessThanOrEqual(1);
      await next.end();
      expect(await next.containers()).toEqual([]);
    },
  );
});
