import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createKubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import { loadKubeContexts } from '../../../agent/backends/kubernetes/kube-config.ts';
import { MAX_KUBECONFIG_BYTES } from '../../../agent/backends/kubernetes/kube-config-files.ts';
import { createAuthority } from '../../fakes/kube-api/certificates.ts';
import { openKubeFolder } from '../../fakes/kube-api/kube-folder.ts';

const { api, folder, newFile } = await openKubeFolder();

function file(content: string | object): string {
  const path = newFile();
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

type Config = {
  clusters: { name: string; cluster: Record<string, unknown> }[];
  users: { name: string; user: Record<string, unknown> }[];
  contexts: { name: string; context: Record<string, unknown> }[];
};
/** The fake's own kubeconfig with another user, or another cluster's members. */
function configWith(
  user: Record<string, unknown>,
  cluster: Record<string, unknown> = {},
  token = 'good',
): string {
  const config = JSON.parse(api.kubeconfig({ token })) as Config;
  for (const entry of config.users) entry.user = user;
  for (const entry of config.clusters) Object.assign(entry.cluster, cluster);
  return file(config);
}

async function listPods(path: string, context = 'fake'): Promise<object> {
  const contexts = await loadKubeContexts(path);
  const client = createKubeClient(contexts.access(context));
  try {
    return await client.call<object>({ method: 'GET', path: '/api/v1/namespaces/default/pods' });
  } finally {
    client.access.close();
  }
}

describe('a kubeconfig', () => {
  test('that is missing is named', async () => {
    const path = join(folder, 'nowhere');
    await expect(loadKubeContexts(path)).rejects.toMatchObject({
      code: 'invalid_request',
      detail: `The kubeconfig '${path}' cannot be read (ENOENT).`,
    });
  });

  test.for([
    '{',
    '',
    'just words',
    '[]',
    'null',
    '{"clusters": [{"name": "a"}]}',
    '{"users": [{"name": "a", "user": {"exec": {"command": "true", "env": {"A": "b"}}}}]}',
  ])('of %j is malformed', async (text) => {
    const path = file(text);
    await expect(loadKubeContexts(path)).rejects.toMatchObject({
      code: 'invalid_request',
      detail: `The kubeconfig '${path}' is malformed.`,
    });
  });

  const base = {
    clusters: [
      { name: 'c', cluster: { server: 'https://localhost:1' } },
      { name: 'words', cluster: { server: 'not a url' } },
      { name: 'file', cluster: { server: 'https://localhost:1', 'certificate-authority': 'nowhere.crt' } },
    ],
    users: [
      { name: 'u', user: { token: 't' } },
      { name: 'broken', user: { 'client-certificate-data': 'AAAA', 'client-key-data': 'AAAA' } },
    ],
    contexts: [
      { name: 'good', context: { cluster: 'c', user: 'u', namespace: 'mine' } },
      { name: 'no-cluster', context: { cluster: 'x', user: 'u' } },
      { name: 'no-user', context: { cluster: 'c', user: 'x' } },
      { name: 'words', context: { cluster: 'words', user: 'u' } },
      { name: 'file', context: { cluster: 'file', user: 'u' } },
      { name: 'broken', context: { cluster: 'c', user: 'broken' } },
    ],
  };
  const rows: [context: string, words: RegExp][] = [
    ['nobody', /has no context 'nobody': it has 'good', 'no-cluster'/],
    ['no-cluster', /names the cluster 'x', which is not there/],
    ['no-user', /names the user 'x', which is not there/],
    ['words', /server that is no URL/],
    ['file', /names the file '.*nowhere\.crt', which cannot be read/],
    ['broken', /client certificate that cannot be read/],
  ];
  test.for(rows)('refuses the context %s and serves the others', async ([context, words]) => {
    const contexts = await loadKubeContexts(file(base));
    expect(() => contexts.access(context)).toThrow(words);
    expect(contexts.access('good').namespace).toBe('mine');
  });

  test.for([
    [10, "'c9'."],
    [11, "'c9' and 1 more."],
  ] as const)('of %i contexts names ten to whoever mistypes one', async ([count, end]) => {
    const contexts = Array.from({ length: count }, (_, index) => ({
      ...base.contexts[0],
      name: `c${index}`,
    }));
    const { access } = await loadKubeContexts(file({ ...base, contexts }));
    const first = Array.from({ length: 9 }, (_, index) => `'c${index}', `).join('');
    expect(() => access('nobody')).toThrow(new RegExp(`has no context 'nobody': it has ${first}${end}$`));
  });

  test('with an expired certificate says since when', async () => {
    const { cert, key } = api.authority.issue({ name: 'old', notAfter: new Date('2020-02-03T00:00:00Z') });
    const path = configWith({ 'client-certificate-data': encode(cert), 'client-key-data': encode(key) });
    const contexts = await loadKubeContexts(path);
    expect(() => contexts.access('fake')).toThrow(/expired on 2020-02-03/);
  });

  test('with a certificate that is not valid yet asks for the clock', async () => {
    const { cert, key } = api.authority.issue({ name: 'new', notBefore: new Date(Date.now() + 3_600_000) });
    const path = configWith({ 'client-certificate-data': encode(cert), 'client-key-data': encode(key) });
    const contexts = await loadKubeContexts(path);
    expect(() => contexts.access('fake')).toThrow(/is not valid before .* is this machine's clock right\?$/);
  });

  test.for([
    ['without its key', (own: string) => ({ 'client-certificate-data': own }), /without its key/],
    [
      'whose key is another’s',
      (own: string) => ({
        'client-certificate-data': own,
        'client-key-data': encode(api.authority.issue({ name: 'other' }).key),
      }),
      /client key that is not its certificate's/,
    ],
    [
      'whose key is no key',
      (own: string) => ({ 'client-certificate-data': own, 'client-key-data': 'AAAA' }),
      /client key that cannot be read/,
    ],
  ] as const)('with a certificate %s says so', async ([, user, words]) => {
    const contexts = await loadKubeContexts(
      configWith(user(encode(api.authority.issue({ name: 'own' }).cert))),
    );
    expect(() => contexts.access('fake')).toThrow(words);
  });

  test.for(['AAAA', 5])('with an authority that is no certificate says so: %j', async (data) => {
    const path = configWith({ token: 'good' }, { 'certificate-authority-data': data });
    const contexts = await loadKubeContexts(path);
    expect(() => contexts.access('fake')).toThrow(/certificate authority that cannot be read/);
  });

  test.for([
    ['a folder', () => folder, 'is no file'],
    [
      'a FIFO',
      () => {
        const path = join(folder, 'fifo');
        execFileSync('mkfifo', [path]);
        return path;
      },
      'is no file',
    ],
    [
      'larger than any',
      () => {
        const path = file('');
        truncateSync(path, MAX_KUBECONFIG_BYTES + 1);
        return path;
      },
      `is larger than ${MAX_KUBECONFIG_BYTES} bytes`,
    ],
  ] as const)('that is %s is named and holds nothing up', async ([, make, words]) => {
    const path = make();
    await expect(loadKubeContexts(path)).rejects.toMatchObject({
      code: 'invalid_request',
      detail: `The kubeconfig '${path}' ${words}.`,
    });
  });

  test('of the largest size is read', async () => {
    const path = file(api.kubeconfig());
    appendFileSync(path, ' '.repeat(MAX_KUBECONFIG_BYTES - statSync(path).size));
    expect((await loadKubeContexts(path)).names).toEqual(['fake']);
  });

  test('of several files serves with those that can be read, and says which cannot', async () => {
    const [good, broken] = [file(base), file('{')];
    const contexts = await loadKubeContexts(`${join(folder, 'nowhere')}:${good}:${broken}`);
    expect(contexts.access('good').namespace).toBe('mine');
    expect(contexts.fileOf('good')).toBe(good);
    expect(contexts.problems.map(({ detail }) => detail)).toEqual([
      `The kubeconfig '${join(folder, 'nowhere')}' cannot be read (ENOENT).`,
      `The kubeconfig '${broken}' is malformed.`,
    ]);
    expect(() => contexts.access('elsewhere')).toThrow(
      /has no context 'elsewhere': it has 'good', .*nowhere' cannot be read \(ENOENT\)\. .*is malformed\.$/,
    );
  });

  test('whose clusters, users and contexts are in a file each is served', async () => {
    const whole = JSON.parse(api.kubeconfig({ token: 'good' })) as Config & { 'current-context': string };
    const { clusters, users, contexts, 'current-context': current } = whole;
    const parts = [{ clusters }, { users }, { contexts, 'current-context': current }].map(file);
    await expect(listPods(parts.join(':'))).resolves.toMatchObject({ items: [] });
    const read = await loadKubeContexts(parts.join(':'));
    expect(read.problems).toEqual([]);
    expect([read.current, read.fileOf('fake')]).toEqual(['fake', parts[2]]);
  });

  test('whose users are in a file that cannot be read says so of the context too', async () => {
    const { clusters, contexts } = JSON.parse(api.kubeconfig()) as Config;
    const [rest, users] = [file({ clusters, contexts }), file('{')];
    const read = await loadKubeContexts(`${rest}:${users}`);
    expect(() => read.access('fake')).toThrow(
      `Context 'fake' of ${rest} names the user 'agent', which is not there. The kubeconfig '${users}' is malformed.`,
    );
  });

  test('without a context in any of its files names them', async () => {
    const { clusters, users } = JSON.parse(api.kubeconfig()) as Config;
    const [one, two, broken] = [file({ clusters }), file({ users }), file('{')];
    await expect(loadKubeContexts(one)).rejects.toMatchObject({
      code: 'invalid_request',
      detail: `The kubeconfig '${one}' holds no context.`,
    });
    await expect(loadKubeContexts(`${one}:${two}`)).rejects.toMatchObject({
      detail: `The kubeconfigs '${one}', '${two}' hold no context.`,
    });
    await expect(loadKubeContexts(`${one}:${broken}`)).rejects.toMatchObject({
      detail: `The kubeconfig '${one}' holds no context. The kubeconfig '${broken}' is malformed.`,
    });
  });

  test('of several files is all of them, and the first counts', async () => {
    const second = file({ ...base, contexts: [{ name: 'second', context: { cluster: 'c', user: 'u' } }] });
    const contexts = await loadKubeContexts(`${file({ ...base, 'current-context': 'good' })}:${second}`);
    expect(contexts.names).toContain('second');
    expect(contexts.current).toBe('good');
  });
});

describe('access', () => {
  test('with a token is let in, and without is not', async () => {
    await expect(listPods(configWith({ token: 'good' }))).resolves.toMatchObject({ items: [] });
    await expect(listPods(configWith({ token: 'bad' }))).rejects.toMatchObject({
      code: 'backend_unavailable',
      httpStatus: 401,
    });
  });

  test('reads a token file, with its line feed', async () => {
    await expect(listPods(configWith({ tokenFile: file('good\n') }))).resolves.toMatchObject({ items: [] });
  });

  test('asks an exec plugin', async () => {
    const credential = JSON.stringify({
      apiVersion: 'client.authentication.k8s.io/v1',
      kind: 'ExecCredential',
      status: { token: 'good' },
    });
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'echo', args: [credential] };
    await expect(listPods(configWith({ exec }))).resolves.toMatchObject({ items: [] });
  });

  test('whose exec plugin fails names the context and the user', async () => {
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'false' };
    await expect(listPods(configWith({ exec }))).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: "No credential can be had for context 'fake', user 'agent': its plugin 'false' gave none.",
    });
  });

  test('whose exec plugin is not there says so', async () => {
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'no-such-plugin' };
    await expect(listPods(configWith({ exec }))).rejects.toMatchObject({
      detail:
        "No credential can be had for context 'fake', user 'agent': its plugin 'no-such-plugin' is not there.",
    });
  });

  test('trusts no certificate but that of its authority', async () => {
    const path = configWith({ token: 'good' }, { 'certificate-authority-data': undefined });
    await expect(listPods(path)).rejects.toMatchObject({ code: 'backend_unavailable' });
  });

  test('checks the name that the kubeconfig gives', async () => {
    const named = (name: string) => configWith({ token: 'good' }, { 'tls-server-name': name });
    await expect(listPods(named('localhost'))).resolves.toMatchObject({ items: [] });
    await expect(listPods(named('another'))).rejects.toMatchObject({ code: 'backend_unavailable' });
  });

  test.for([
    ['speaks no TLS', 'it speaks no TLS', () => createServer()],
    [
      'has an expired certificate',
      'its certificate has expired',
      () => {
        const { cert, key } = api.authority.issue({
          name: 'old',
          notAfter: new Date('2020-02-03T00:00:00Z'),
        });
        return createTlsServer({ cert, key });
      },
    ],
    [
      'has another’s certificate',
      "its certificate is not of the context's authority",
      () => createTlsServer(createAuthority('another').issue({ name: 'kube-apiserver' })),
    ],
    [
      'cuts the connection',
      'it cut the connection',
      () => createServer().on('connection', (socket) => void socket.resetAndDestroy()),
    ],
  ] as const)('to a server that %s says so', async ([, words, create]) => {
    const server = create().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const path = configWith({ token: 'good' }, { server: `https://127.0.0.1:${port}` });
    await expect(listPods(path)).rejects.toMatchObject({
      detail: `The API server of context 'fake' cannot be reached: ${words}.`,
    });
    server.close();
    server.closeAllConnections();
  });

  test('to a server that is not there is one clear sentence', async () => {
    const path = configWith({ token: 'good' }, { server: 'https://127.0.0.1:1' });
    await expect(listPods(path)).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: "The API server of context 'fake' cannot be reached: nothing listens there.",
    });
  });
});

function encode(pem: string): string {
  return Buffer.from(pem).toString('base64');
}
