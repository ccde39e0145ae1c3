import { type Asked, sandboxContainer } from './asked-pod.ts';
import type { Mount, Volume } from './kube-objects.ts';
import { CONTAINER } from './pod-spec.ts';
import { parseQuantity } from './quantity.ts';

/** Kinds of volumes by their members' names, as callers are told them. */
const KINDS: Readonly<Record<string, string>> = {
  secret: 'a secret',
  configMap: 'a config map',
  hostPath: 'a path of the node',
  emptyDir: 'a folder without the limits of a sandbox',
  persistentVolumeClaim: 'a persistent volume',
  csi: 'a volume of a driver',
  projected: "files of the cluster's",
  downwardAPI: "the pod's own fields",
  image: 'an image',
};

/**
 * What a sandbox is given to see besides its own places: user code could read it, and nothing bounds or empties what it may
 * write there. Nor are its own places for others: what they put there it would find. Undefined where there is nothing. Volumes
 * that only other containers mount are theirs.
 */
export function changedMounts(asked: Asked, made: Asked): string | undefined {
  const wanted = sandboxContainer(asked)?.volumeMounts ?? [];
  const mounts = sandboxContainer(made)?.volumeMounts ?? [];
  for (const mount of mounts) {
    if (isOwn(mount, wanted)) continue;
    const volume = made.spec?.volumes?.find(({ name }) => name === mount.name);
    return `mounts ${kindOf(volume)} at ${mount.mountPath} in`;
  }
  const isThere = ({ name, mountPath }: Mount) =>
    mounts.some((mount) => mount.name === name && mount.mountPath === mountPath);
  if (!wanted.every(isThere)) return 'changes the mounts of';
  const shared = wanted.find(({ name }) => otherMounts(made).has(name));
  if (shared) return `mounts ${shared.mountPath} of the sandbox into another container of`;
  const isKept = (volume: Volume) => made.spec?.volumes?.some((other) => isSameTmpfs(volume, other));
  return (asked.spec?.volumes ?? []).every(isKept) ? undefined : 'changes the volumes of';
}

/** Names of the volumes that containers beside the sandbox's mount. */
function otherMounts({ spec }: Asked): ReadonlySet<string> {
  const all = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
  const others = all.filter(({ name }) => name !== CONTAINER);
  return new Set(others.flatMap(({ volumeMounts = [] }) => volumeMounts.map(({ name }) => name)));
}

function isOwn({ name, mountPath, subPath, subPathExpr }: Mount, wanted: readonly Mount[]): boolean {
  const known = wanted.some((mount) => mount.name === name && mount.mountPath === mountPath);
  return known && !subPath && !subPathExpr;
}

function isSameTmpfs(asked: Volume, made: Volume): boolean {
  return (
    made.name === asked.name &&
    made.emptyDir?.medium === asked.emptyDir?.medium &&
    parseQuantity(made.emptyDir?.sizeLimit ?? '') === parseQuantity(asked.emptyDir?.sizeLimit ?? '')
  );
}

function kindOf(volume: Volume | undefined): string {
  if (holdsToken(volume)) return "a service account's token";
  const kind = Object.keys(volume ?? {}).find((member) => member !== 'name') ?? '';
  return KINDS[kind] ?? 'a volume';
}

function holdsToken(volume: Volume | undefined): boolean {
  const { projected } = (volume ?? {}) as { projected?: { sources?: object[] } };
  return (projected?.sources ?? []).some((source) => 'serviceAccountToken' in source);
}
