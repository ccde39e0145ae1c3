import { Failure } from '../../../shared/errors.ts';
import type { Log } from '../../log.ts';
import { isOver } from './container-state.ts';
import { inspectContainer } from './containers.ts';
import { ANSWER, MAX_WORDS } from './engine-answer.ts';
import type { EngineClient } from './engine-client.ts';

/** A container is started under one lock: many at once wait for each other. */
const START_TIMEOUT_MS = 120_000;
const MAX_SAID = 2_048;

/** Its id. Not aborted once it is sent, as its start is not: whether there is a container to remove must be known. */
export async function makeContainer(
  client: EngineClient,
  { name, body, log }: { name: string; body: object; log: Log },
): Promise<string> {
  const { Id, Warnings } = await client.call(
    { method: 'POST', path: '/containers/create', query: { name }, body },
    ANSWER.made,
  );
  if (Warnings?.length)
    log('engine_warned', { container: name, words: Warnings.join(' ').slice(0, MAX_WORDS) });
  return Id;
}

export async function startContainer(client: EngineClient, name: string): Promise<void> {
  await client.call({ method: 'POST', path: `/containers/${name}/start`, timeoutMs: START_TIMEOUT_MS });
}

/** Why its runner could not be reached: one that ended by itself has said something, and `cause` is not the reason. */
export async function explainStart(client: EngineClient, name: string, cause: unknown): Promise<never> {
  const found = await inspectContainer(client, name).catch(() => undefined);
  if (!isOver(found?.State?.Status)) throw cause;
  const query = { stderr: 'true', stdout: 'true', tail: '20' };
  const said = await client
    .text({ method: 'GET', path: `/containers/${name}/logs`, query })
    .catch((failure: unknown) => String(failure));
  throw new Failure(
    'image_error',
    "The template's image cannot run the runner: it needs Python 3.9 or newer.",
    {
      cause: new Error(`ended with ${found?.State?.ExitCode}: ${said.slice(-MAX_SAID)}`),
    },
  );
}
