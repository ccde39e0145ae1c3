import type * as z from 'zod';
import type { Sandbox } from '../backend.ts';
import { LABEL, MANAGED_BY } from '../labels.ts';
import { CONTAINER_LABEL } from './container-spec.ts';
import { ANSWER, MAX_LIST_BYTES } from './engine-answer.ts';
import type { EngineClient } from './engine-client.ts';
import { isRefused } from './engine-failure.ts';

/** A container as the engine lists it. */
export type Container = z.infer<typeof ANSWER.containers>[number];

/**
 * What one installation made on this engine, or one instance of it: in every state, and never another's. What is listed
 * may be removed: an engine, or a proxy before it, that passes over the filters must not have a stranger's removed, nor may
 * labels that came with an image.
 */
export async function listContainers(
  client: EngineClient,
  { installation, instance, signal }: { installation: string; instance?: string; signal?: AbortSignal },
): Promise<Container[]> {
  const wanted: [name: string, value: string][] = [
    [LABEL.managedBy, MANAGED_BY],
    [LABEL.installation, installation],
  ];
  if (instance !== undefined) wanted.push([LABEL.instance, instance]);
  const label = wanted.map(([name, value]) => `${name}=${value}`);
  const query = { all: 'true', filters: JSON.stringify({ label }) };
  const listed = await client.call(
    {
      method: 'GET',
      path: '/containers/json',
      query,
      maxBytes: MAX_LIST_BYTES,
      ...(signal ? { signal } : {}),
    },
    ANSWER.containers,
  );
  return listed.filter(
    (each) => hasOwnLabels(each) && wanted.every(([name, value]) => labelOf(each, name) === value),
  );
}

/** Whether its labels were given to itself. An earlier agent named none. */
function hasOwnLabels(container: Container): boolean {
  const name = container.Labels?.[CONTAINER_LABEL.sandbox];
  return name === undefined || name === nameOf(container);
}

/** Its state; undefined where it is not there. */
export async function inspectContainer(
  client: EngineClient,
  name: string,
  signal?: AbortSignal,
): Promise<z.infer<typeof ANSWER.container> | undefined> {
  try {
    const path = `/containers/${name}/json`;
    return await client.call({ method: 'GET', path, ...(signal ? { signal } : {}) }, ANSWER.container);
  } catch (cause) {
    if (isRefused(cause, 404)) return undefined;
    throw cause;
  }
}

/** Whether an agent holds a stream to it at this moment: its shim runs as long as the stream is held. */
export async function hasStream(client: EngineClient, name: string, signal: AbortSignal): Promise<boolean> {
  const found = await inspectContainer(client, name, signal);
  for (const id of found?.ExecIDs ?? []) {
    try {
      const path = `/exec/${id}/json`;
      const exec = await client.call({ method: 'GET', path, signal }, ANSWER.execState);
      if (exec.Running === true) return true;
    } catch (cause) {
      if (!isRefused(cause, 404)) throw cause;
    }
  }
  return false;
}

/** Ends it and everything in it. Resolves also when it is gone already. */
export async function removeContainer(client: EngineClient, name: string): Promise<void> {
  try {
    await client.call({ method: 'DELETE', path: `/containers/${name}`, query: { force: 'true', v: 'true' } });
  } catch (cause) {
    if (isRefused(cause, 404)) return;
    if (isRefused(cause, 409) && /removal of container .* is already in progress/.test(cause.words)) return;
    throw cause;
  }
}

export function nameOf({ Names, Id }: Container): string {
  return Names?.[0]?.replace(/^\//, '') ?? Id;
}

export function labelOf({ Labels }: Container, label: string): string {
  return Labels?.[label] ?? '';
}

export function toSandbox(container: Container): Sandbox {
  return {
    id: nameOf(container),
    template: labelOf(container, LABEL.template),
    templateHash: labelOf(container, LABEL.templateHash),
    instance: labelOf(container, LABEL.instance),
    createdAtMs: Number(labelOf(container, CONTAINER_LABEL.createdAtMs)) || 0,
  };
}
