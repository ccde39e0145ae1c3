import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { EngineClient } from '../../agent/backends/docker/engine-client.ts';
import { readServerSentEvents } from '../../client/server-sent-events.ts';
import { startDockerAgent } from '../fakes/docker-agent.ts';
import { ENGINE_IMAGE, openEngine } from '../fakes/docker-engine.ts';
import { type OwnEngine, startOwnEngine } from '../fakes/own-engine.ts';
import { type Stack, startStack } from '../fakes/stack.ts';
import { startTcpProxy, type TcpProxy } from '../fakes/tcp-proxy.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });

const IN_FLIGHT = 4;
const LINES = 150;
/** Shorter than the 90 s for which a lost sandbox is looked for. */
const SHORT_MS = 3_000;
const COUNT = `
import time
for n in range(${LINES}):
    print(n, flush=True)
    time.sleep(0.03)
`;
const COUNTED = Array.from({ length: LINES }, (_, n) => `${n}\n`).join('');
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** What a stream brought, and the event that it ended with. */
type Answer = { printed: string; last: string; data: Record<string, unknown> };

describe('an engine under an agent with work in flight', () => {
  let own: OwnEngine;
  let client: EngineClient;
  let wire: TcpProxy;
  let stack: Stack;
  beforeAll(async () => {
    own = await startOwnEngine();
    client = openEngine(own.host);
    wire = await startTcpProxy({ socketPath: join(own.dir, 'docker.sock') });
    stack = await startStack({ agents: [] });
  });
  afterAll(async () => {
    await stack?.[Symbol.asyncDispose]();
    client?.close();
    await wire?.[Symbol.asyncDispose]();
    await own?.[Symbol.asyncDispose]();
  });

  /** `begun` is called at the first output. */
  async function follow(cluster: string, begun: () => void): Promise<Answer> {
    const response = await stack.post('/v1/execute/stream', {
      code: COUNT,
      cluster,
      timeout_ms: 30_000,
      queue_timeout_ms: 60_000,
    });
    let printed = '';
    for await (const { event, data } of readServerSentEvents(response.body as ReadableStream<Uint8Array>)) {
      const body = JSON.parse(data) as Record<string, unknown>;
      if (event !== 'output') return { printed, last: event, data: body };
      printed += body.data;
      begun();
    }
    throw new Error('the stream ended without a last event');
  }

  /** The whole output of a program that ended, or the beginning of one that did not: never a part that is called the whole. */
  function isHonest({ printed, last, data }: Answer): boolean {
    if (last === 'result' && data.outcome === 'exited') return printed === COUNTED && data.exit_code === 0;
    return COUNTED.startsWith(printed) && (last === 'error' || data.exit_code === null);
  }

  /** Programs that all have begun, a fault in the middle of them, and a program after it. */
  async function breakAmid(cluster: string, fault: () => Promise<void>): Promise<Answer[]> {
    const pool = { min: IN_FLIGHT, max: IN_FLIGHT };
    const templates = [{ name: 'default', image: ENGINE_IMAGE, pool }];
    const variables = { DOCKER_HOST: `tcp://127.0.0.1:${wire.port}` };
    const agent = await startDockerAgent({ stack, client, cluster, templates, variables });
    await stack.warm([cluster]);
    const begun = Array.from({ length: IN_FLIGHT }, () => Promise.withResolvers<void>());
    const following = begun.map(({ resolve }) => follow(cluster, resolve));
    await Promise.race([Promise.all(begun.map(({ promise }) => promise)), Promise.all(following)]);
    await fault();
    const answers = await Promise.all(following);
    expect(answers.filter((answer) => !isHonest(answer))).toEqual([]);
    const next = () =>
      stack.run('print(6 * 7)', { cluster, queue_timeout_ms: 20_000 }).catch(() => undefined);
    await expect.poll(async () => (await next())?.stdout, { timeout: 60_000 }).toBe('42\n');
    await agent.end();
    expect(await agent.containers()).toEqual([]);
    return answers;
  }

  test('that is killed and comes back loses what ran in it, says so, and serves again', async () => {
    const answers = await breakAmid('killed', async () => {
      await own.kill();
      await own.start();
    });
    const told = answers.map(({ data }) => [data.code, data.started]);
    expect(told).toEqual(Array(IN_FLIGHT).fill(['sandbox_lost', 'yes']));
  });

  test('that stalls delays what runs, and loses nothing', async () => {
    const answers = await breakAmid('stalled', async () => {
      own.freeze(true);
      await pause(SHORT_MS);
      own.freeze(false);
    });
    expect(answers.map(({ data }) => data.outcome)).toEqual(Array(IN_FLIGHT).fill('exited'));
  });

  test.for([
    ['cut', () => wire.cut()],
    ['half open', () => wire.halfOpen('target')],
    ['corrupt', () => wire.corrupt(2)],
  ] as const)('behind a wire that is %s answers nothing that is not so', async ([name, fault]) => {
    await breakAmid(name.replace(' ', '-'), async () => {
      fault();
      await pause(SHORT_MS);
      wire.cut();
    });
  });
});
