import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse, parseAllDocuments } from 'yaml';
import { printable, UsageError } from './io.ts';

/** The sandboxes' namespace in manifests/. */
export const DEFAULT_NAMESPACE = 'podgate-sandboxes';

/** The agent's own in manifests/. */
export const AGENT_NAMESPACE = 'podgate';

export type KubeObject = {
  kind: string;
  metadata: { name: string; namespace?: string };
  subjects?: { namespace?: string }[];
  spec?: { template?: { spec?: { containers?: Container[] } } };
};
type Container = { image: string; env: { name: string; value: string }[] };

/** Throws UsageError for what is no label of RFC 1123, as a namespace's name is. */
export function requireNamespace(name: string): void {
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name))
    throw new UsageError(
      `'${printable(name)}' cannot be a namespace: use 1 to 63 of a-z, 0-9 and -, and no - at either end`,
    );
}

/** The objects of a kustomize base of manifests/, in its order, with sandboxes in `namespace`. */
export async function readManifestBase(base: string, namespace: string): Promise<KubeObject[]> {
  const objects = await readBase(join(manifestsFolder(), base));
  for (const { kind, metadata } of objects) {
    if (metadata.namespace === DEFAULT_NAMESPACE) metadata.namespace = namespace;
    if (kind === 'Namespace' && metadata.name === DEFAULT_NAMESPACE) metadata.name = namespace;
  }
  return objects;
}

/** The bases lie beside the sources and beside `dist`. */
function manifestsFolder(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const besideSources = join(here, '..', 'manifests');
  return existsSync(besideSources) ? besideSources : join(here, '..', '..', 'manifests');
}

async function readBase(folder: string): Promise<KubeObject[]> {
  const { resources } = parse(await readFile(join(folder, 'kustomization.yaml'), 'utf8')) as {
    resources: string[];
  };
  const objects: KubeObject[] = [];
  for (const resource of resources) {
    const path = join(folder, resource);
    if (!resource.endsWith('.yaml')) objects.push(...(await readBase(path)));
    else
      for (const document of parseAllDocuments(await readFile(path, 'utf8')))
        objects.push(document.toJS() as KubeObject);
  }
  return objects;
}
