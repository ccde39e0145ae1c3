import { createBackoff } from '../../backoff.ts';
import type { Clock } from '../../clock.ts';
import type { Log } from '../../log.ts';
import { pause } from '../../pause.ts';
import { removeContainer } from './containers.ts';
import type { EngineClient } from './engine-client.ts';
import { isPassing } from './engine-failure.ts';

const TRIES = 12;

export type ContainerRemovalDeps = {
  client: EngineClient;
  clock: Clock;
  random: () => number;
  log: Log;
  /** Once aborted, nothing is tried again. */
  signal: AbortSignal;
};

/** Removes a container by its name, for as long as that takes. Never rejects; who asks while it goes on waits for the same. */
export function createContainerRemoval(deps: ContainerRemovalDeps): (name: string) => Promise<void> {
  const { client, clock, random, log, signal } = deps;
  const underWay = new Map<string, Promise<void>>();

  /** Tries for minutes, as nobody waits for it. What is left then the keeper finds, and PID 1 has ended: its stream is gone. */
  async function tryToRemove(name: string): Promise<void> {
    const backoff = createBackoff({ baseMs: 500, maxMs: 30_000, random });
    for (;;) {
      try {
        return await removeContainer(client, name);
      } catch (cause) {
        if (signal.aborted || !isPassing(cause) || backoff.tries >= TRIES) {
          log('container_not_removed', { container: name, cause });
          return;
        }
        await pause(clock, backoff.next(), signal).catch(() => {});
      }
    }
  }

  return (name) => {
    const removal = underWay.get(name) ?? tryToRemove(name).finally(() => underWay.delete(name));
    underWay.set(name, removal);
    return removal;
  };
}
