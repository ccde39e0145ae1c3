import { describe, expect, test } from 'vitest';
import {
  deadlineSeconds,
  drawUid,
  memoryLimitMb,
  type PodIdentity,
  podSpec,
} from '../../../agent/backends/kubernetes/pod-spec.ts';
import { RUNNER_PLACE } from '../../../agent/backends/runner-place.ts';
import { FIRST_SANDBOX_UID, SANDBOX_UIDS } from '../../../agent/backends/sandbox-uid.ts';
import { runnerConfig } from '../../../agent/runner/runner-config.ts';
import { parseTemplate, type TemplateInput } from '../../../shared/template.ts';

const IDENTITY: PodIdentity = {
  name: 'podgate-default-0a1b2c',
  namespace: 'sandboxes',
  installation: 'main',
  instance: 'Instance_1234-5678',
  lease: { name: 'podgate-lease', uid: 'lease-uid' },
  uid: 70_000,
};
const COMMAND = ['python3', '-I', '-S', '-c', 'loader', '{}'];

async function specOf(input: Partial<TemplateInput> = {}, identity: Partial<PodIdentity> = {}) {
  const template = await parseTemplate({ name: 'default', image: 'python:3.12', ...input });
  return podSpec(template, { ...IDENTITY, ...identity }, COMMAND);
}

function at(value: unknown, path: string): unknown {
  return path
    .split('/')
    .reduce<unknown>((inner, key) => (inner as Record<string, unknown> | undefined)?.[key], value);
}

describe('the pod of a plain template', () => {
  const rows: [path: string, value: unknown][] = [
    ['metadata/name', 'podgate-default-0a1b2c'],
    ['metadata/namespace', 'sandboxes'],
    ['metadata/labels/app.kubernetes.io~managed-by', 'podgate'],
    ['metadata/labels/podgate.dev~installation', 'main'],
    ['metadata/labels/podgate.dev~instance', 'Instance_1234-5678'],
    ['metadata/labels/podgate.dev~template', 'default'],
    ['metadata/annotations/podgate.dev~instance', 'Instance_1234-5678'],
    [
      'metadata/ownerReferences',
      [{ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', name: 'podgate-lease', uid: 'lease-uid' }],
    ],
    ['spec/containers/length', 1],
    ['spec/initContainers', undefined],
    ['spec/containers/0/image', 'python:3.12'],
    ['spec/containers/0/command', COMMAND],
    ['spec/containers/0/args', undefined],
    ['spec/containers/0/env', undefined],
    ['spec/containers/0/ports', undefined],
    ['spec/containers/0/workingDir', '/workspace'],
    ['spec/containers/0/securityContext/allowPrivilegeEscalation', false],
    ['spec/containers/0/securityContext/privileged', false],
    ['spec/containers/0/securityContext/readOnlyRootFilesystem', true],
    ['spec/containers/0/securityContext/runAsNonRoot', true],
    ['spec/containers/0/securityContext/capabilities', { drop: ['ALL'] }],
    ['spec/containers/0/securityContext/seccompProfile', { type: 'RuntimeDefault' }],
    ['spec/containers/0/terminationMessagePath', '/root/.podgate-termination'],
    ['spec/containers/0/terminationMessagePolicy', 'File'],
    [
      'spec/containers/0/volumeMounts',
      [
        { name: 'workspace', mountPath: '/workspace' },
        { name: 'tmp', mountPath: '/tmp' },
        { name: 'shm', mountPath: '/dev/shm' },
      ],
    ],
    [
      'spec/volumes',
      [
        { name: 'workspace', emptyDir: { medium: 'Memory', sizeLimit: '64Mi' } },
        { name: 'tmp', emptyDir: { medium: 'Memory', sizeLimit: '64Mi' } },
        { name: 'shm', emptyDir: { medium: 'Memory', sizeLimit: '16Mi' } },
      ],
    ],
    [
      'spec/containers/0/resources',
      {
        requests: { cpu: '100m', memory: '320Mi', 'ephemeral-storage': '16Mi' },
        limits: { cpu: '1000m', memory: '464Mi', 'ephemeral-storage': '16Mi' },
      },
    ],
    [
      'spec/securityContext',
      {
        runAsNonRoot: true,
        runAsUser: 70_000,
        runAsGroup: 70_000,
        seccompProfile: { type: 'RuntimeDefault' },
      },
    ],
    ['spec/hostNetwork', false],
    ['spec/hostPID', false],
    ['spec/hostIPC', false],
    ['spec/hostUsers', undefined],
    ['spec/hostname', 'sandbox'],
    ['spec/shareProcessNamespace', false],
    ['spec/automountServiceAccountToken', false],
    ['spec/enableServiceLinks', false],
    ['spec/serviceAccountName', undefined],
    ['spec/dnsPolicy', 'None'],
    ['spec/dnsConfig', { nameservers: ['127.0.0.1'] }],
    ['spec/restartPolicy', 'Never'],
    ['spec/terminationGracePeriodSeconds', 1],
    ['spec/activeDeadlineSeconds', 3720 + 86_400],
    ['spec/nodeSelector', undefined],
    ['spec/tolerations', undefined],
    ['spec/affinity', undefined],
    ['spec/priorityClassName', undefined],
    ['spec/runtimeClassName', undefined],
    ['spec/imagePullSecrets', undefined],
  ];
  test.for(rows)('has %s = %j', async ([path, value]) => {
    const pod = await specOf();
    const found = path.split('/').reduce<unknown>((inner, key) => at(inner, key.replace('~', '/')), pod);
    // A label's name holds the path's own separator: `~` stands for it.
    expect(path.includes('~') ? labelled(pod, path) : found).toEqual(value);
  });

  function labelled(pod: unknown, path: string): unknown {
    const [outer, member, name] = path.split('/') as [string, string, string];
    return (at(pod, `${outer}/${member}`) as Record<string, string>)[name.replace('~', '/')];
  }

  test('carries the hash of its template', async () => {
    const template = await parseTemplate({ name: 'default', image: 'python:3.12' });
    const pod = await specOf();
    expect(pod.metadata?.labels?.['podgate.dev/template-hash']).toBe(template.hash);
  });
});

describe('the pod of a template', () => {
  const kubernetes: NonNullable<TemplateInput['kubernetes']> = {
    image_pull_policy: 'Always',
    image_pull_secrets: ['registry'],
    node_selector: { pool: 'sandboxes' },
    tolerations: [{ key: 'sandbox', operator: 'Exists', effect: 'NoExecute', toleration_seconds: 5 }],
    affinity: { nodeAffinity: {} },
    priority_class: 'low',
    runtime_class: 'gvisor',
    scheduler: 'bin-packer',
    service_account: 'nobody',
    annotations: { 'example.com/team': 'a' },
    host_users: false,
  };
  const rows: [path: string, value: unknown][] = [
    ['spec/containers/0/imagePullPolicy', 'Always'],
    ['spec/imagePullSecrets', [{ name: 'registry' }]],
    ['spec/nodeSelector', { pool: 'sandboxes' }],
    ['spec/tolerations', [{ key: 'sandbox', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 5 }]],
    ['spec/affinity', { nodeAffinity: {} }],
    ['spec/priorityClassName', 'low'],
    ['spec/runtimeClassName', 'gvisor'],
    ['spec/schedulerName', 'bin-packer'],
    ['spec/serviceAccountName', 'nobody'],
    ['spec/automountServiceAccountToken', false],
    ['spec/hostUsers', false],
    ['metadata/annotations', { 'example.com/team': 'a', 'podgate.dev/instance': 'Instance_1234-5678' }],
  ];
  test.for(rows)('takes over %s', async ([path, value]) => {
    expect(at(await specOf({ kubernetes }), path)).toEqual(value);
  });

  test('counts its tmpfs volumes and the runner into the memory limit', async () => {
    const template = await parseTemplate({
      name: 'big',
      resources: { memory_mb: 1000, workspace_mb: 300, tmp_mb: 200 },
      kubernetes: { shm_mb: 30, base_memory_mb: 70 },
    });
    expect(memoryLimitMb(template)).toBe(1600);
  });

  test('reserves no more than it may use', async () => {
    const pod = await specOf({
      resources: { cpus: 0.5, memory_mb: 16 },
      kubernetes: { requests: { cpus: 4, memory_mb: 100_000 } },
    });
    expect(pod.spec?.containers[0]?.resources?.requests).toMatchObject({ cpu: '500m', memory: '224Mi' });
  });

  test('keeps the pod alive for an execution that begins at its maximum age', async () => {
    const template = await parseTemplate({
      name: 'long',
      resources: { timeout_ms: 600_500 },
      kubernetes: { max_age_seconds: 600 },
    });
    expect(deadlineSeconds(template)).toBe(600 + 86_400 + 601 + 60);
  });

  test('with a network has the cluster resolve names', async () => {
    const pod = await specOf({ network: 'cluster' });
    expect(pod.spec?.dnsPolicy).toBe('ClusterFirst');
    expect(pod.spec?.dnsConfig).toBeUndefined();
  });

  test('whose platform assigns UIDs names none', async () => {
    const pod = await specOf({}, { uid: null });
    expect(pod.spec?.securityContext).toEqual({
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
  });

  test('gives an instance whose name is no label value a digest, and the name as annotation', async () => {
    const pod = await specOf({}, { instance: '-'.repeat(64) });
    expect(pod.metadata?.labels?.['podgate.dev/instance']).toMatch(/^h[0-9a-f]{40}$/);
    expect(pod.metadata?.annotations?.['podgate.dev/instance']).toBe('-'.repeat(64));
  });
});

describe('the UID of a pod', () => {
  const rows: [words: string, input: Partial<TemplateInput>, random: number, uid: number | null][] = [
    ['is 65532 at the lowest', {}, 0, FIRST_SANDBOX_UID],
    ['is drawn from a range of a billion', {}, 0.999_999_999_9, FIRST_SANDBOX_UID + SANDBOX_UIDS - 1],
    ['is the one that the template fixes', { uid: 1000 }, 0.5, 1000],
    ['is left to a platform that assigns it', { kubernetes: { assign_uid: 'platform' } }, 0.5, null],
    [
      'is inside the 65536 of a user namespace',
      { kubernetes: { host_users: false } },
      0.5,
      FIRST_SANDBOX_UID,
    ],
  ];
  test.for(rows)('%s', async ([, input, random, uid]) => {
    const template = await parseTemplate({ name: 'default', ...input });
    expect(drawUid(template, () => random)).toBe(uid);
  });
});

test('the runner waits for shims, and ends itself when nobody comes', async () => {
  const template = await parseTemplate({
    name: 'default',
    preload: ['json'],
    require: ['seccomp', 'landlock'],
  });
  expect(runnerConfig(template, RUNNER_PLACE)).toMatchObject({
    attach: 'socket',
    place: 'shared',
    network: false,
    workspace: '/workspace',
    scratch: ['/tmp', '/dev/shm'],
    idle_exit_seconds: 120,
    require: ['seccomp', 'landlock'],
  });
});
