import { expect, test } from 'vitest';
import { requireUnchanged } from '../../../agent/backends/kubernetes/changed-pod.ts';
import { podSpec } from '../../../agent/backends/kubernetes/pod-spec.ts';
import { parseTemplate } from '../../../shared/template.ts';

const template = await parseTemplate({
  name: 'default',
  image: 'python',
  resources: { memory_mb: 1_024, workspace_mb: 1_024, cpus: 1 },
  kubernetes: { host_users: false, runtime_class: 'gvisor' },
});
const identity = {
  name: 'p',
  namespace: 'n',
  installation: 'i',
  instance: 'a',
  lease: { name: 'l', uid: 'u' },
};
const asked = podSpec(template, { ...identity, uid: 65_532 }, ['python3', '-c', 'runner']);
const [container] = asked.spec?.containers ?? [];
const [tmpfs, ...otherVolumes] = asked.spec?.volumes ?? [];

const withSpec = (change: object) => ({ ...asked, spec: { ...asked.spec, ...change } }) as typeof asked;
const withContainer = (change: object) => withSpec({ containers: [{ ...container, ...change }] });
const withSecurity = (change: object) =>
  withContainer({ securityContext: { ...container?.securityContext, ...change } });
const withVolume = (...volumes: object[]) => withSpec({ volumes: [...volumes, ...otherVolumes] });
const withMount = (volume: object) => ({
  ...withSpec({
    volumes: [...(asked.spec?.volumes ?? []), { name: 'given', ...volume }],
    containers: [
      {
        ...container,
        volumeMounts: [...(container?.volumeMounts ?? []), { name: 'given', mountPath: '/given' }],
      },
    ],
  }),
});
const refusalOf = (made: typeof asked) => {
  try {
    requireUnchanged(asked, made);
  } catch (cause) {
    const { code, detail } = cause as { code: string; detail: string };
    return `${code}: ${detail}`;
  }
  return undefined;
};

test.for([
  ['process namespace', withSpec({ shareProcessNamespace: true })],
  ['process namespace', withSpec({ hostPID: true })],
  ['network namespace', withSpec({ hostNetwork: true })],
  ['IPC namespace', withSpec({ hostIPC: true })],
  ['user namespace', withSpec({ hostUsers: undefined })],
  ['service links', withSpec({ enableServiceLinks: true })],
  ['runtime class', withSpec({ runtimeClassName: undefined })],
  ['restart policy', withContainer({ restartPolicy: 'Always' })],
  ['restart policy', withSpec({ restartPolicy: 'OnFailure' })],
  ['group', withSecurity({ runAsGroup: 0 })],
  ['command', withContainer({ command: ['/vault-env', ...(container?.command ?? [])] })],
  ['command', withContainer({ command: ['python', ...(container?.command ?? []).slice(1)] })],
  ['command', withContainer({ args: ['more'] })],
  ['security context', withSecurity({ privileged: true })],
  ['security context', withSecurity({ allowPrivilegeEscalation: undefined })],
  ['security context', withSecurity({ readOnlyRootFilesystem: false })],
  ['security context', withSecurity({ capabilities: { drop: ['ALL'], add: ['NET_RAW'] } })],
  ['security context', withSecurity({ capabilities: { drop: ['KILL'] } })],
  ['security context', withSecurity({ seccompProfile: { type: 'Unconfined' } })],
  ['security context', withSecurity({ appArmorProfile: { type: 'Unconfined' } })],
  ['security context', withSecurity({ procMount: 'Unmasked' })],
  ['resource limits', withContainer({ resources: {} })],
  [
    'resource limits',
    withContainer({ resources: { limits: { ...container?.resources?.limits, cpu: '8' } } }),
  ],
  [
    'resource limits',
    withContainer({ resources: { limits: { ...container?.resources?.limits, 'vendor.example/gpu': '1' } } }),
  ],
  ['devices', withContainer({ volumeDevices: [{ name: 'disk', devicePath: '/dev/sdx' }] })],
  ['devices', withContainer({ resources: { ...container?.resources, claims: [{ name: 'gpu' }] } })],
  ['probes or hooks', withContainer({ livenessProbe: { exec: { command: ['true'] } } })],
  ['probes or hooks', withContainer({ readinessProbe: { exec: { command: ['true'] } } })],
  ['probes or hooks', withContainer({ startupProbe: { exec: { command: ['true'] } } })],
  ['probes or hooks', withContainer({ lifecycle: { postStart: { exec: { command: ['true'] } } } })],
  ['mounts', withContainer({ volumeMounts: container?.volumeMounts?.slice(1) })],
  ['volumes', withVolume({ ...tmpfs, emptyDir: {} })],
  ['volumes', withVolume({ ...tmpfs, emptyDir: { ...tmpfs?.emptyDir, sizeLimit: '64Gi' } })],
  ['volumes', withVolume({ ...tmpfs, emptyDir: { ...tmpfs?.emptyDir, sizeLimit: undefined } })],
  ['volumes', withVolume({ ...tmpfs, emptyDir: { ...tmpfs?.emptyDir, medium: '' } })],
  ['volumes', withVolume({ name: tmpfs?.name, hostPath: { path: '/' } }, { ...tmpfs, name: 'another' })],
] as const)('a pod of which the %s is changed is refused in so many words (%#)', ([what, made]) => {
  expect(refusalOf(made)).toBe(
    `policy_denied: Something in the cluster changes the ${what} of the template's pods: an admission webhook or policy.`,
  );
});

test.for([
  ['a secret', { secret: { secretName: 'key' } }],
  ["a service account's token", { projected: { sources: [{ configMap: {} }, { serviceAccountToken: {} }] } }],
  ["files of the cluster's", { projected: { sources: [{ configMap: {} }] } }],
  ['a path of the node', { hostPath: { path: '/' } }],
  ['a folder without the limits of a sandbox', { emptyDir: {} }],
  ['a volume', { somethingNew: {} }],
] as const)('a pod with %s in its sandbox is refused, and where it is mounted is said', ([what, volume]) => {
  expect(refusalOf(withMount(volume))).toContain(`mounts ${what} at /given in the template's pods`);
});

test('a mount that stands over a place of the sandbox is refused as any other', () => {
  const [workspace, ...rest] = container?.volumeMounts ?? [];
  const made = withContainer({ volumeMounts: [{ ...workspace, subPath: 'elsewhere' }, ...rest] });
  expect(refusalOf(made)).toContain('mounts a folder without the limits of a sandbox at /workspace');
});

test('a place of the sandbox that is mounted a second time, over a folder of its image, is refused', () => {
  const mounts = container?.volumeMounts ?? [];
  const made = withContainer({
    volumeMounts: [...mounts, { name: tmpfs?.name ?? '', mountPath: '/usr/bin' }],
  });
  expect(refusalOf(made)).toContain('mounts a folder without the limits of a sandbox at /usr/bin');
});

test.for(['containers', 'initContainers'] as const)(
  'a pod of which others, of its %s, mount a place of the sandbox is refused',
  (kind) => {
    const [workspace] = container?.volumeMounts ?? [];
    const other = { name: 'collector', volumeMounts: [{ name: workspace?.name ?? '', mountPath: '/logs' }] };
    const made = withSpec({ [kind]: [...(asked.spec?.[kind] ?? []), other] });
    expect(refusalOf(made)).toContain('mounts /workspace of the sandbox into another container of');
  },
);

test.for([
  [
    'puts a secret into the environment (KEY) of',
    { env: [{ name: 'KEY', valueFrom: { secretKeyRef: {} } }] },
  ],
  [
    'puts a whole secret or config map into the environment of',
    { envFrom: [{ secretRef: { name: 'keys' } }] },
  ],
] as const)('a pod is refused where the cluster %s it', ([what, change]) => {
  expect(refusalOf(withContainer(change))).toContain(what);
});

test('a pod that leaves its user and its runtime to the cluster may be given them', async () => {
  const open = await parseTemplate({
    name: 'default',
    image: 'python',
    kubernetes: { assign_uid: 'platform' },
  });
  const asked = podSpec(open, { ...identity, uid: null }, ['python3', '-c', 'runner']);
  const securityContext = { ...asked.spec?.securityContext, runAsUser: 1_000_650_000, runAsGroup: 0 };
  const spec = { ...asked.spec, securityContext, runtimeClassName: 'kata' };
  requireUnchanged(asked, { ...asked, spec } as typeof asked);
});

test('a pod is as it was asked for where a server says the same in other words, or adds what is beside the sandbox', () => {
  const { limits, requests } = container?.resources ?? {};
  expect(limits?.memory).toMatch(/Mi$/);
  const inKi = `${Number.parseInt(limits?.memory ?? '', 10) * 1024}Ki`;
  const same = withContainer({
    resources: { requests, limits: { ...limits, cpu: '1', memory: inKi, 'hugepages-2Mi': '0' } },
  });
  const { hostNetwork, hostPID, hostIPC, shareProcessNamespace, ...spec } = { ...same.spec };
  const secret = { name: 'mesh', secret: { secretName: 'mesh' } };
  const made = {
    ...same,
    spec: {
      ...spec,
      volumes: [secret, { ...tmpfs, emptyDir: { medium: 'Memory', sizeLimit: '1Gi' } }, ...otherVolumes],
      containers: [
        {
          name: 'mesh',
          volumeMounts: [{ name: 'mesh', mountPath: '/mesh' }],
          envFrom: [{}],
          livenessProbe: {},
        },
        ...(spec.containers ?? []),
      ],
      initContainers: [{ name: 'init', securityContext: { capabilities: { add: ['NET_ADMIN'] } } }],
      tolerations: [{ operator: 'Exists' }],
      securityContext: { ...spec.securityContext, fsGroup: 1 },
    },
  };
  expect(refusalOf(made as typeof asked)).toBeUndefined();
});
