import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { makeContainer } from '../../../agent/backends/docker/container-start.ts';
import { inspectContainer, listContainers } from '../../../agent/backends/docker/containers.ts';
import { MAX_ANSWER_BYTES, MAX_WORDS } from '../../../agent/backends/docker/engine-answer.ts';
import { createEngineClient, type EngineClient } from '../../../agent/backends/docker/engine-client.ts';
import { readEngineFacts } from '../../../agent/backends/docker/engine-facts.ts';
import { openContainerExec } from '../../../agent/backends/docker/exec-stream.ts';
import { findImage } from '../../../agent/backends/docker/images.ts';
import { type Answer, says, strangeEngine } from '../../fakes/strange-engine.ts';

const signal = new AbortController().signal;

async function engineThat(answer: Answer, version?: unknown): Promise<EngineClient> {
  const socket = await strangeEngine(answer, version);
  const client = createEngineClient({ kind: 'socket', shown: socket, path: () => socket });
  onTestFinished(client.close);
  return client;
}

const get = { method: 'GET', path: '/anything' } as const;
const STRANGE = expect.objectContaining({ name: 'Failure', code: 'backend_unavailable' });

describe('an engine whose answer', () => {
  test('is as long as any may be is heard, and one byte more is not', async () => {
    const fits = await engineThat(says('x'.repeat(MAX_ANSWER_BYTES)));
    expect((await fits.text(get)).length).toBe(MAX_ANSWER_BYTES);
    const over = await engineThat(says('x'.repeat(MAX_ANSWER_BYTES + 1)));
    await expect(over.text(get)).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: 'The engine answers more than any does.',
    });
  });

  test.for([200, 500])('has no end, with status %d, is given up when it is too long', async (status) => {
    const gone = Promise.withResolvers<void>();
    let isGone = false;
    const endless = await engineThat(async (response) => {
      response.on('close', gone.resolve).writeHead(status);
      void gone.promise.then(() => {
        isGone = true;
      });
      const piece = Buffer.alloc(65_536, 32);
      while (!isGone) {
        if (response.write(piece)) await turn();
        else await Promise.race([once(response, 'drain'), gone.promise]);
      }
    });
    await expect(endless.text(get)).rejects.toEqual(STRANGE);
    await gone.promise;
  });

  test.for([
    ['nothing', ''],
    ['no JSON', 'not JSON!'],
    ['null', 'null'],
    ['a number', '7'],
    ['a list of numbers', '[7]'],
    ['fields of other kinds', { Id: 7, State: 7, SecurityOptions: 7, Warnings: 7 }],
  ] as [string, unknown][])('is %s is strange whatever was asked', async ([, value]) => {
    const client = await engineThat(says(value));
    const asked = [
      readEngineFacts(client, { isUnsafe: true, signal }),
      listContainers(client, { installation: 'a' }),
      inspectContainer(client, 'a'),
      findImage(client, 'a', signal),
      makeContainer(client, { name: 'a', body: {}, log: () => {} }),
      openContainerExec({
        client,
        container: 'a',
        command: ['true'],
        signal,
        onStderr: () => {},
        onEnd: () => {},
      }),
    ];
    for (const each of await Promise.allSettled(asked))
      expect(each).toMatchObject({ status: 'rejected', reason: STRANGE });
  });

  test('warns at length is logged for its first words', async () => {
    const client = await engineThat(says({ Id: 'a', Warnings: ['w'.repeat(MAX_WORDS), 'more'] }, 201));
    const logged: unknown[] = [];
    await makeContainer(client, { name: 'a', body: {}, log: (_event, fields) => void logged.push(fields) });
    expect(logged).toEqual([{ container: 'a', words: 'w'.repeat(MAX_WORDS) }]);
  });

  test('does not come, or stops in its middle, is awaited for its time', async () => {
    const timeoutMs = 50;
    const late = { code: 'backend_unavailable', detail: 'The engine did not answer in time.' };
    const stalled = await engineThat(() => {});
    await expect(stalled.text({ ...get, timeoutMs })).rejects.toMatchObject(late);
    await expect(stalled.hijack({ ...get, timeoutMs })).rejects.toMatchObject(late);
    const halfway = await engineThat((response) => void response.writeHead(200).write('{'));
    await expect(halfway.text({ ...get, timeoutMs })).rejects.toMatchObject(late);
  });
});

test('an engine that passes over filters shows nobody the containers of others', async () => {
  const labels = (installation: string, instance: string) => ({
    'app.kubernetes.io/managed-by': 'podgate',
    'podgate.dev/installation': installation,
    'podgate.dev/instance': instance,
  });
  const listed = [
    { Id: 'own', Labels: labels('a', 'own') },
    { Id: 'sister', Labels: labels('a', 'sister') },
    { Id: 'other', Labels: labels('b', 'own') },
    { Id: 'database', Labels: { 'podgate.dev/installation': 'a' } },
    { Id: 'bare', Labels: null },
  ];
  const client = await engineThat(says(listed));
  const ids = async (instance?: string) =>
    (await listContainers(client, { installation: 'a', ...(instance && { instance }) })).map(({ Id }) => Id);
  expect(await ids()).toEqual(['own', 'sister']);
  expect(await ids('own')).toEqual(['own']);
});

describe('an engine that speaks', () => {
  test.for([
    ['1.41', undefined, '1.41'],
    ['1.45', '1.24', '1.41'],
    ['1.52', '1.44', '1.44'],
    ['1.100', '1.60', '1.60'],
    ['2.0', '1.100', '1.100'],
  ])('%s down to %s is spoken to in %s', async ([ApiVersion, MinAPIVersion, apiVersion]) => {
    const client = await engineThat(says({}), { ApiVersion, MinAPIVersion });
    expect(await client.negotiate()).toMatchObject({ apiVersion });
  });

  test.for(['1.9', '1.40', '0.99', '1.41/../..', '', undefined])('%s is too old', async (ApiVersion) => {
    const client = await engineThat(says({}), { ApiVersion });
    await expect(client.negotiate()).rejects.toMatchObject({ detail: expect.stringMatching(/is needed/) });
  });
});
