import { describe, expect, test } from 'vitest';
import type { EngineClient } from '../../../agent/backends/docker/engine-client.ts';
import { refusalOf } from '../../../agent/backends/docker/engine-failure.ts';
import { pullImage, splitReference } from '../../../agent/backends/docker/images.ts';

describe("an image's reference", () => {
  test.for([
    ['python', 'python', 'latest'],
    ['python:3.13-slim', 'python', '3.13-slim'],
    ['registry.example:5000/team/python', 'registry.example:5000/team/python', 'latest'],
    ['registry.example:5000/team/python:1', 'registry.example:5000/team/python', '1'],
    ['python@sha256:ab', 'python', 'sha256:ab'],
    ['python:3@sha256:ab', 'python:3', 'sha256:ab'],
  ])('%s is %s and %s', ([name, fromImage, tag]) => {
    expect(splitReference(name as string)).toEqual({ fromImage, tag });
  });
});

describe('an image that cannot be fetched', () => {
  // Docker refuses at once; Podman, and Docker once it has begun, say so in a line of the answer.
  test.for([
    ['refused', async () => Promise.reject(refusalOf(404, 'manifest unknown'))],
    ['told', async () => ({ error: 'manifest unknown' })],
  ] as [string, () => Promise<object>][])(
    'and is %s so is image_error, with the words of its registry',
    async ([, line]) => {
      const client = {
        async *follow() {
          yield await line();
        },
      } as unknown as EngineClient;
      const first = pullImage(client, 'registry.example/none:1', AbortSignal.timeout(1_000)).next();
      await expect(first).rejects.toMatchObject({
        code: 'image_error',
        detail: "'registry.example/none:1' cannot be fetched: manifest unknown",
      });
    },
  );
});
