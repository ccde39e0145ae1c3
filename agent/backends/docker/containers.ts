import type { Sandbox } from '../backend.ts';
import { LABEL, MANAGED_BY } from '../labels.ts';
import { CONTAINER_LABEL } from './container-spec.ts';
import type { ContainerState } from './container-state.ts';
import type { EngineClient } from './engine-client.ts';
import { isRefused } from './engine-failure.ts';

/** A container as the engine lists it. */
export type Container = {
  Id: string;
  Names?: readonly string[] | null;
  State?: string;
  Labels?: Readonly<Record<string, string>> | null;
};

/** What one installation made on this engine, or one instance of it: in every state, and never another's. */
export function listContainers(
  client: EngineClient,
  { installation, instance, signal }: { installation: string; instance?: string; signal?: AbortSignal },
): Promise<Container[]> {
  const label = [`${LABEL.managedBy}=${MANAGED_BY}`, `${LABEL.installation}=${installation}`];
  if (instance !== undefined) label.push(`${LABEL.instance}=${instance}`);
  return client.call<Container[]>({
    method: 'GET',
    path: '/containers/json',
    query: { all: 'true', filters: JSON.stringify({ label }) },
    ...(signal ? { signal } : {}),
  });
}

/** Its state; undefined where it is not there. */
export async function inspectContainer(
  client: EngineClient,
  name: string,
  signal?: AbortSignal,
): Promise<{ State?: ContainerState; ExecIDs?: readonly string[] | null } | undefined> {
  try {
    return await client.call({
      method: 'GET',
      path: `/containers/${name}/json`,
      ...(signal ? { signal } : {}),
    });
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
      const exec = await client.call<{ Running?: boolean }>({
        method: 'GET',
        path: `/exec/${id}/json`,
        signal,
      });
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
