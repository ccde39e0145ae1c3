import { describe, expect, test } from 'vitest';
import { type ContainerState, containerEnd } from '../../../agent/backends/docker/container-state.ts';

describe("a container's state", () => {
  test.for(['created', 'running', 'paused', 'restarting', 'initialized'])('%s is no end', (Status) => {
    expect(containerEnd({ Status, OOMKilled: true, ExitCode: 137 })).toBeUndefined();
  });

  test.for([
    [undefined, 'deleted', 'The container was removed.'],
    [
      { Status: 'exited', OOMKilled: true, ExitCode: 137 },
      'memory',
      'The sandbox used more memory than it may.',
    ],
    // Somebody in it was killed for memory, and it ended by itself later.
    [{ Status: 'exited', OOMKilled: true, ExitCode: 0 }, 'exited', "The sandbox's runner ended with 0."],
    [{ Status: 'exited', OOMKilled: false, ExitCode: 137 }, 'exited', "The sandbox's runner ended with 137."],
    [{ Status: 'dead' }, 'exited', "The sandbox's runner ended with an unknown code."],
    [{ Status: 'removing', ExitCode: 1 }, 'exited', "The sandbox's runner ended with 1."],
  ] as [ContainerState | undefined, string, string][])('%j is %s', ([state, why, detail]) => {
    expect(containerEnd(state)).toMatchObject({ why, failure: { code: 'sandbox_lost', detail } });
  });
});
