import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { issueAgentToken } from '../../cli/issue-keys.ts';
import { initKeyFolder } from '../../cli/key-folder.ts';
import { createAuthority } from '../fakes/kube-api/certificates.ts';
import { podgate } from '../fakes/podgate-command.ts';

const GATEWAY = 'https://podgate.example';

type Deployment = {
  spec: {
    template: {
      spec: {
        containers: { env: object[]; volumeMounts: { name: string; mountPath: string }[] }[];
        volumes: object[];
      };
    };
  };
};
type KubeObject = { kind: string; metadata: Record<string, unknown>; [member: string]: unknown };

let dir: string;
let token: string;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'podgate-manifests-'));
  await initKeyFolder(dir);
  token = (await issueAgentToken(dir, { clusters: ['lab'] }, Date.now())).text;
});
afterAll(() => rmSync(dir, { recursive: true }));

const objects = (text: string) => parseAllDocuments(text).map((each) => each.toJS() as KubeObject);

describe('podgate agent manifest', () => {
  test('prints one file that holds all that an agent needs, and nothing of the whole cluster’s', async () => {
    const printed = await podgate(['agent', 'manifest', '--gateway', GATEWAY, '--token', token]);
    expect(printed).toMatchObject({ status: 0, stderr: '' });
    const found = objects(printed.stdout);
    expect(found.map(({ kind }) => kind).sort()).toEqual([
      'Deployment',
      'LimitRange',
      'Namespace',
      'Namespace',
      'NetworkPolicy',
      'PodDisruptionBudget',
      'ResourceQuota',
      'ResourceQuota',
      'Role',
      'RoleBinding',
      'Secret',
      'ServiceAccount',
    ]);
    expect(found.find(({ kind }) => kind === 'Secret')).toMatchObject({ stringData: { token } });
    const deployment = JSON.stringify(found.find(({ kind }) => kind === 'Deployment'));
    expect(deployment).toContain(JSON.stringify({ name: 'PODGATE_GATEWAY_URL', value: GATEWAY }));
    expect(deployment).toContain(JSON.stringify({ name: 'PODGATE_CLUSTER', value: 'lab' }));
  });

  test('puts sandboxes and every right into the namespace that is named', async () => {
    const more = ['--namespace', 'elsewhere', '--cluster', 'lab', '--image', 'own/podgate:1'];
    const printed = await podgate(['agent', 'manifest', '--gateway', GATEWAY, '--token', token, ...more]);
    expect(printed.stdout).not.toContain('podgate-sandboxes\n  labels');
    for (const { kind, metadata } of objects(printed.stdout))
      if (['Role', 'RoleBinding', 'NetworkPolicy', 'ResourceQuota', 'LimitRange'].includes(kind))
        expect(metadata.namespace).toBe('elsewhere');
    expect(printed.stdout).toContain('image: own/podgate:1');
  });

  test('gives the agent the authority of the gateway’s certificate, in the Secret of its credential', async () => {
    const ca = join(dir, 'ca.pem');
    writeFileSync(ca, createAuthority().cert);
    const more = ['--gateway-ca', ca];
    const printed = await podgate(['agent', 'manifest', '--gateway', GATEWAY, '--token', token, ...more]);
    const found = objects(printed.stdout);
    const secret = found.find(({ kind }) => kind === 'Secret');
    expect(secret).toMatchObject({ stringData: { token, 'ca.pem': readFileSync(ca, 'utf8') } });
    const deployment = found.find(({ kind }) => kind === 'Deployment') as unknown as Deployment;
    const { containers, volumes } = deployment.spec.template.spec;
    const [{ env, volumeMounts } = { env: [], volumeMounts: [] }] = containers;
    const [mount] = volumeMounts;
    expect(env).toContainEqual({ name: 'PODGATE_GATEWAY_CA_FILE', value: `${mount?.mountPath}/ca.pem` });
    expect(volumes).toMatchObject([{ name: mount?.name, secret: { secretName: 'podgate-agent' } }]);
  });

  test.for([
    [['--token', 'x'], /--gateway/],
    [
      ['--gateway', GATEWAY, '--token', 'OWN', '--gateway-ca', import.meta.filename],
      /is no certificate in PEM/,
    ],
    [['--gateway', GATEWAY], /--token or --token-file/],
    [['--gateway', GATEWAY, '--token', 'x'], /credential cannot be read/],
    [['--gateway', GATEWAY, '--token-file', '/nowhere'], /ENOENT/],
  ] as [string[], RegExp][])('%j says what is missing', async ([args, sentence]) => {
    const given = args.map((each) => (each === 'OWN' ? token : each));
    const printed = await podgate(['agent', 'manifest', ...given]);
    expect(printed.status).toBe(2);
    expect(printed.stderr).toMatch(sentence);
  });
});

describe('podgate agent manifest refuses', () => {
  test.for([
    [['--namespace', 'podgate'], /'podgate' is the agent's own namespace/],
    [['--namespace=-x'], /'-x' cannot be a namespace: .* no - at either end/],
    [['--namespace', 'x-'], /'x-' cannot be a namespace/],
    [['--namespace', 'a'.repeat(64)], /cannot be a namespace: use 1 to 63/],
    [['--cluster', 'Lab A'], /'Lab A' cannot be a cluster's name: use 1 to 63 of a-z, 0-9 and -/],
    [['--cluster', ''], /'' cannot be a cluster's name/],
    [['--cluster', 'other'], /token is for lab, not for the cluster 'other': .*agents token --cluster other/],
  ] as [string[], RegExp][])('%j, which could not work', async ([args, sentence]) => {
    const printed = await podgate(['agent', 'manifest', '--gateway', GATEWAY, '--token', token, ...args]);
    expect([printed.status, printed.stdout]).toEqual([2, '']);
    expect(printed.stderr).toMatch(sentence);
  });

  test('nothing of a namespace of one letter, or of 63', async () => {
    for (const name of ['a', `a-${'b'.repeat(61)}`]) {
      const args = ['--gateway', GATEWAY, '--token', token, '--namespace', name];
      expect(await podgate(['agent', 'manifest', ...args])).toMatchObject({ status: 0, stderr: '' });
    }
  });
});

test('the agent’s Role has the verbs that it uses, and no more', () => {
  const file = new URL('../../manifests/agent/role.yaml', import.meta.url);
  const [role] = objects(readFileSync(file, 'utf8'));
  expect(role?.rules).toEqual([
    { apiGroups: [''], resources: ['pods'], verbs: ['create', 'get', 'list', 'watch', 'delete'] },
    { apiGroups: [''], resources: ['pods/exec'], verbs: ['create', 'get'] },
    {
      apiGroups: ['coordination.k8s.io'],
      resources: ['leases'],
      verbs: ['create', 'get', 'list', 'update', 'delete'],
    },
  ]);
});

test('the image is built of every folder that is compiled, and of no key', () => {
  const root = new URL('../../', import.meta.url);
  const read = (name: string) => readFileSync(new URL(name, root), 'utf8');
  const lines = read('.dockerignore').split('\n');
  const { include } = JSON.parse(read('tsconfig.build.json')) as { include: string[] };
  expect(lines).toContain('*');
  for (const needed of [...include, 'manifests', 'package.json', 'package-lock.json'])
    expect(lines).toContain(`!${needed}`);
  expect(lines.filter((line) => /key|token|podgate/.test(line) && line.startsWith('!'))).toEqual([]);
});
