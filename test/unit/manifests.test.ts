import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { readAgentConfig } from '../../agent/config.ts';
import { readGatewayConfig } from '../../gateway/node/config.ts';
import { MAX_REQUESTS_IN_FLIGHT_BYTES } from '../../shared/limits.ts';

type Row = readonly [path: string, value: unknown];

const read = (file: string) => readFileSync(new URL(`../../manifests/${file}`, import.meta.url), 'utf8');

function objects(file: string): unknown[] {
  return parseAllDocuments(read(file)).map((each) => each.toJS());
}

/** `a/b/0`: a member's name may hold a slash, which is written `~`. */
function at(value: unknown, path: string): unknown {
  return path
    .split('/')
    .reduce<unknown>(
      (inner, key) => (inner as Record<string, unknown> | undefined)?.[key.replaceAll('~', '/')],
      value,
    );
}

function holds(file: string, rows: readonly Row[]): void {
  const [object] = objects(file);
  test.for(rows)(`${file} has %s = %j`, ([path, value]) => {
    expect(at(object, path)).toEqual(value);
  });
}

describe('the namespace of sandboxes', () => {
  const level = 'metadata/labels/pod-security.kubernetes.io~';
  holds('sandbox/namespace.yaml', [
    ['kind', 'Namespace'],
    [`${level}enforce`, 'restricted'],
    [`${level}enforce-version`, 'latest'],
    [`${level}warn`, 'restricted'],
    [`${level}audit`, 'restricted'],
  ]);
  holds('sandbox/network-policy.yaml', [
    ['kind', 'NetworkPolicy'],
    ['metadata/namespace', 'podgate-sandboxes'],
    // Every pod, and no rule that would let anything through.
    ['spec', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] }],
  ]);
  holds('sandbox/quota.yaml', [
    ['kind', 'ResourceQuota'],
    ['metadata/namespace', 'podgate-sandboxes'],
    ['spec/scopes', undefined],
    ['spec/scopeSelector', undefined],
    ['spec/hard/pods', expect.stringMatching(/^[1-9]\d*$/)],
    ['spec/hard/requests.cpu', expect.stringMatching(/^[1-9]\d*$/)],
    ['spec/hard/requests.memory', expect.stringMatching(/^[1-9]\d*Gi$/)],
    ['spec/hard/limits.cpu', expect.stringMatching(/^[1-9]\d*$/)],
    ['spec/hard/limits.memory', expect.stringMatching(/^[1-9]\d*Gi$/)],
    ['spec/hard/services', '0'],
    ['spec/hard/persistentvolumeclaims', '0'],
  ]);
  holds('sandbox/priority-quota.yaml', [
    ['kind', 'ResourceQuota'],
    ['metadata/namespace', 'podgate-sandboxes'],
    ['spec/hard', { pods: '0' }],
    ['spec/scopeSelector/matchExpressions/length', 1],
    [
      'spec/scopeSelector/matchExpressions/0',
      {
        scopeName: 'PriorityClass',
        operator: 'In',
        values: ['system-node-critical', 'system-cluster-critical'],
      },
    ],
  ]);
  holds('sandbox/limit-range.yaml', [
    ['kind', 'LimitRange'],
    ['metadata/namespace', 'podgate-sandboxes'],
    ['spec/limits/length', 1],
    ['spec/limits/0/type', 'Container'],
    ['spec/limits/0/max', { cpu: expect.any(String), memory: expect.any(String) }],
    ['spec/limits/0/default', { cpu: expect.any(String), memory: expect.any(String) }],
    ['spec/limits/0/defaultRequest', { cpu: expect.any(String), memory: expect.any(String) }],
  ]);
});

const CONTAINER = 'spec/template/spec/containers';
const USER = { runAsNonRoot: true, runAsUser: 65_532, runAsGroup: 65_532, fsGroup: 65_532 };
/** What the restricted Pod Security Standard wants, and what no pod of Podgate's needs. */
const OF_EVERY_DEPLOYMENT: readonly Row[] = [
  ['kind', 'Deployment'],
  ['metadata/namespace', 'podgate'],
  ['spec/replicas', 1],
  ['spec/template/spec/securityContext', { ...USER, seccompProfile: { type: 'RuntimeDefault' } }],
  ['spec/template/spec/enableServiceLinks', false],
  ['spec/template/spec/hostNetwork', undefined],
  ['spec/template/spec/hostPID', undefined],
  [`${CONTAINER}/length`, 1],
  [
    `${CONTAINER}/0/securityContext`,
    { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
  ],
  [`${CONTAINER}/0/resources/requests`, { cpu: expect.any(String), memory: expect.any(String) }],
  [`${CONTAINER}/0/resources/limits/memory`, expect.any(String)],
  [`${CONTAINER}/0/livenessProbe/httpGet/port`, 'http'],
  [`${CONTAINER}/0/readinessProbe/httpGet/port`, 'http'],
  // `podgate agent manifest` reads it as YAML 1.2, and kubectl as 1.1.
  ['spec/template/spec/volumes/0/secret/defaultMode', 0o440],
  [`${CONTAINER}/0/volumeMounts/0/readOnly`, true],
];

/** As the container has it, with `more` in place of what only a cluster can give. */
function environmentOf(file: string, more: Record<string, string> = {}): Record<string, string> {
  const given = at(objects(file)[0], `${CONTAINER}/0/env`) as { name: string; value: string }[];
  return { ...Object.fromEntries(given.map(({ name, value }) => [name, value])), ...more };
}

const graceMs = (file: string) =>
  Number(at(objects(file)[0], 'spec/template/spec/terminationGracePeriodSeconds')) * 1_000;
const selectedBy = (object: unknown) => at(object, 'spec/selector/matchLabels') as object;
const namesOf = (object: unknown) => at(object, 'metadata') as { name: string; namespace: string };
const labelsOf = (file: string) => at(objects(file)[0], 'spec/template/metadata/labels');

describe('the agent', () => {
  const file = 'agent/deployment.yaml';
  holds(file, [
    ...OF_EVERY_DEPLOYMENT,
    ['spec/template/spec/serviceAccountName', 'podgate-agent'],
    ['spec/template/spec/automountServiceAccountToken', true],
    [`${CONTAINER}/0/livenessProbe/httpGet/path`, '/livez'],
    [`${CONTAINER}/0/readinessProbe/httpGet/path`, '/readyz'],
    [`${CONTAINER}/0/volumeMounts/0/mountPath`, '/var/run/podgate'],
  ]);
  holds('agent/pod-disruption-budget.yaml', [
    ['kind', 'PodDisruptionBudget'],
    ['metadata/namespace', 'podgate'],
    ['spec/maxUnavailable', 1],
    ['spec/minAvailable', undefined],
  ]);
  holds('agent/namespace.yaml', [['metadata/labels/pod-security.kubernetes.io~enforce', 'restricted']]);

  test('is configured by its Deployment, and drains within the time that a node gives it', () => {
    const environment = environmentOf(file, { PODGATE_AGENT_TOKEN_FILE: '', PODGATE_AGENT_TOKEN: 'token' });
    const config = readAgentConfig({ environment });
    const { containerPort } = at(objects(file)[0], `${CONTAINER}/0/ports/0`) as { containerPort: number };
    expect(config.http).toEqual({ host: '0.0.0.0', port: containerPort });
    expect(graceMs(file)).toBeGreaterThan(config.drainMs);
  });

  test('is what its disruption budget, its Deployment and its Role’s subject select', () => {
    const [budget] = objects('agent/pod-disruption-budget.yaml');
    const [deployment] = objects(file);
    expect(labelsOf(file)).toMatchObject(selectedBy(budget));
    expect(labelsOf(file)).toMatchObject(selectedBy(deployment));
    const [account] = objects('agent/service-account.yaml');
    const { name, namespace } = namesOf(account);
    expect(at(deployment, 'spec/template/spec/serviceAccountName')).toBe(name);
    expect(at(objects('agent/role.yaml')[1], 'subjects')).toEqual([
      { kind: 'ServiceAccount', name, namespace },
    ]);
  });
});

describe('the gateway', () => {
  const file = 'gateway/deployment.yaml';
  holds(file, [
    ...OF_EVERY_DEPLOYMENT,
    ['spec/strategy', { type: 'Recreate' }],
    ['spec/template/spec/automountServiceAccountToken', false],
    [`${CONTAINER}/0/livenessProbe/httpGet/path`, '/health'],
    [`${CONTAINER}/0/readinessProbe/httpGet/path`, '/health'],
    [`${CONTAINER}/0/volumeMounts/0/mountPath`, '/etc/podgate'],
  ]);
  holds('gateway/namespace.yaml', [['metadata/labels/pod-security.kubernetes.io~enforce', 'restricted']]);

  test('says why it has one replica', () => {
    expect(read(file)).toMatch(
      /# One: files lie in a folder that replicas do not share\..*(\n {2}#.*)*\n {2}replicas: 1\n/,
    );
  });

  test('is configured by its Deployment, and drains within the time that a node gives it', () => {
    const config = readGatewayConfig({ environment: environmentOf(file) });
    const ports = at(objects(file)[0], `${CONTAINER}/0/ports`);
    expect(ports).toEqual([
      { name: 'http', containerPort: config.port },
      { name: 'metrics', containerPort: config.metrics?.port },
    ]);
    expect(graceMs(file)).toBeGreaterThan(config.drainDelayMs + config.drainMs);
    const [volume] = (at(objects(file)[0], 'spec/template/spec/volumes') as { name: string }[]).slice(-1);
    expect(volume).toEqual({ name: 'files', emptyDir: { sizeLimit: '12Gi' } });
    expect(config.files?.limits.maxBytes).toBeLessThan(12 * 2 ** 30);
  });

  test('refuses for want of memory before the kernel ends it: its budgets leave what docs/limits.md says', () => {
    const config = readGatewayConfig({ environment: environmentOf(file) });
    const limit = at(objects(file)[0], `${CONTAINER}/0/resources/limits/memory`);
    expect(limit).toBe('1Gi');
    const budgets = MAX_REQUESTS_IN_FLIGHT_BYTES + config.gateway.outputMemoryBytes;
    expect(2 ** 30 - budgets).toBeGreaterThanOrEqual(384 * 2 ** 20);
  });

  test('is reached through its Service, and that through the Ingress of the example', () => {
    const [service] = objects('gateway/service.yaml');
    const [ingress] = objects('gateway/ingress-example.yaml');
    expect(labelsOf(file)).toMatchObject(at(service, 'spec/selector') as object);
    expect(labelsOf(file)).toMatchObject(selectedBy(objects(file)[0]));
    expect(at(service, 'spec/ports')).toEqual([{ name: 'http', port: 80, targetPort: 'http' }]);
    const { name, namespace } = namesOf(service);
    expect(namesOf(ingress).namespace).toBe(namespace);
    const rules = at(ingress, 'spec/rules') as { http: { paths: object[] } }[];
    expect(rules.flatMap((rule) => rule.http.paths)).toEqual([
      { path: '/', pathType: 'Prefix', backend: { service: { name, port: { name: 'http' } } } },
    ]);
    // Agents dial the Service by the name that the gateway takes for its own.
    expect(environmentOf(file).PODGATE_ORIGINS).toBe(`http://${name}.${namespace}.svc`);
    expect(environmentOf('agent/deployment.yaml').PODGATE_GATEWAY_URL).toBe(
      `http://${name}.${namespace}.svc`,
    );
  });
});

test.for(['agent', 'gateway', 'sandbox'])('the kustomization of %s has all that lies beside it', (folder) => {
  const files = readdirSync(new URL(`../../manifests/${folder}`, import.meta.url));
  const resources = at(objects(`${folder}/kustomization.yaml`)[0], 'resources') as string[];
  const left = files.filter((file) => !['kustomization.yaml', 'ingress-example.yaml'].includes(file));
  expect(resources.filter((each) => !each.startsWith('..')).sort()).toEqual(left.sort());
  if (folder === 'agent') expect(resources).toContain('../sandbox');
});

/** A Dockerfile's instructions, each on one line. */
function instructions(name: string): string[] {
  const text = read(`docker/${name}.Dockerfile`).replace(/\\\n\s*/g, '');
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

describe('the image', () => {
  const SCIENCE = ['numpy', 'pandas', 'matplotlib', 'scipy', 'scikit-learn', 'openpyxl'];
  test.for([
    ['podgate', 'docker.io/library/node:24-slim', []],
    ['sandbox-python', 'docker.io/library/python:3.13-slim', ['bash', 'nodejs']],
    ['sandbox-python-sci', 'sandbox-python:0.5.0', SCIENCE],
  ] as const)(
    '%s is built on a base that can be chosen, has its packages, and is no root’s',
    ([name, base, packages]) => {
      const lines = instructions(name);
      expect(lines[0]).toBe(`ARG BASE=${base}`);
      for (const from of lines.filter((line) => line.startsWith('FROM ')))
        expect(from).toMatch(/^FROM \$\{BASE\}/);
      const installed = lines
        .filter((line) => /^RUN .*\binstall\b/.test(line))
        .join(' ')
        .split(/\s+/);
      for (const each of packages) expect(installed).toContain(each);
      expect(lines.filter((line) => line.startsWith('USER ')).at(-1)).toBe('USER 65532:65532');
    },
  );
});

const nginx = (name: string) => `metadata/annotations/nginx.ingress.kubernetes.io~${name}`;

describe('the example of an Ingress', () => {
  holds('gateway/ingress-example.yaml', [
    // How large a body may be the gateway says, in its own form.
    [nginx('proxy-body-size'), '0'],
    [nginx('proxy-request-buffering'), 'off'],
    [nginx('proxy-buffering'), 'off'],
    [nginx('proxy-read-timeout'), '3600'],
    [nginx('proxy-send-timeout'), '3600'],
  ]);
});
