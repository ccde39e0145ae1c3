import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createKubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import { loadKubeContexts } from '../../../agent/backends/kubernetes/kube-config.ts';
import { MAX_CREDENTIAL_BYTES } from '../../../agent/backends/kubernetes/kube-credential.ts';
import { openExec } from '../../../agent/backends/kubernetes/open-exec.ts';
import { type Certificate, createAuthority } from '../../fakes/kube-api/certificates.ts';
import { ADMINISTRATORS } from '../../fakes/kube-api/kube-api.ts';
import { openKubeFolder } from '../../fakes/kube-api/kube-folder.ts';

const { api, folder, newFile } = await openKubeFolder();
const PODS = { method: 'GET', path: '/api/v1/namespaces/default/pods' } as const;

/** A kubeconfig with one context; without a user unless one is given. */
function kubeconfig(cluster: Record<string, unknown>, user?: Record<string, unknown>): string {
  const path = newFile();
  const config = {
    clusters: [{ name: 'c', cluster }],
    users: user ? [{ name: 'u', user }] : [],
    contexts: [{ name: 'one', context: { cluster: 'c', ...(user && { user: 'u' }) } }],
  };
  writeFileSync(path, JSON.stringify(config));
  return path;
}

async function listPods(path: string): Promise<object> {
  const client = createKubeClient((await loadKubeContexts(path)).access('one'));
  onTestFinished(() => client.access.close());
  return client.call<object>(PODS);
}

/** An API server without TLS: what it answers says with which credential it was asked, unless it answers always the same. */
async function startPlainServer(always?: string): Promise<string> {
  const server = createServer(({ headers }, response) => {
    response.end(always ?? JSON.stringify({ asked: headers.authorization ?? 'nobody' }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const secure = () => {
  const [{ cluster }] = JSON.parse(api.kubeconfig()).clusters;
  return cluster as Record<string, unknown>;
};

describe('a context without a user', () => {
  test('is nobody to a server that its authority vouches for', async () => {
    await expect(listPods(kubeconfig(secure()))).rejects.toMatchObject({ httpStatus: 401 });
  });

  test('is served without TLS too, as kubectl proxy has it', async () => {
    await expect(listPods(kubeconfig({ server: await startPlainServer() }))).resolves.toEqual({
      asked: 'nobody',
    });
  });
});

describe('an answer that says yes', () => {
  const status = { kind: 'Status', status: 'Failure', message: 'no', reason: 'Gone' };

  test.for([
    [410, 410],
    [undefined, 500],
    [200, 500],
  ])('to a refusal of code %s is one, of %s', async ([code, httpStatus]) => {
    const server = await startPlainServer(JSON.stringify({ ...status, code }));
    const refused = { code: 'backend_unavailable', httpStatus, words: 'no', reason: 'Gone' };
    await expect(listPods(kubeconfig({ server }))).rejects.toMatchObject(refused);
  });

  test('to what was done is taken', async () => {
    const done = { ...status, status: 'Success' };
    const server = await startPlainServer(JSON.stringify(done));
    expect(await listPods(kubeconfig({ server }))).toEqual(done);
  });

  test.for(['', 'null', '7', '<html>', '{"items":['])('and is no object is refused: %j', async (text) => {
    const server = await startPlainServer(text);
    await expect(listPods(kubeconfig({ server }))).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: "What answers for the API server of context 'one' is none, or its answer broke off.",
    });
  });
});

describe('a client certificate', () => {
  const issue = (organization: string, authority = api.authority) =>
    authority.issue({ name: 'agent', organization });
  const asData = ({ cert, key }: Certificate) => ({
    'client-certificate-data': Buffer.from(cert).toString('base64'),
    'client-key-data': Buffer.from(key).toString('base64'),
  });
  const asFiles = ({ cert, key }: Certificate) => {
    const [certificate, own] = [newFile(), newFile()];
    writeFileSync(certificate, cert);
    writeFileSync(own, key);
    return { 'client-certificate': certificate, 'client-key': own };
  };

  test.for([
    ['a kubeconfig', asData],
    ['files', asFiles],
  ] as const)('of %s lets calls, watches and execs in', async ([, write]) => {
    const path = kubeconfig(secure(), write(issue(ADMINISTRATORS)));
    await expect(listPods(path)).resolves.toMatchObject({ items: [] });
    const { access, watch } = createKubeClient((await loadKubeContexts(path)).access('one'));
    onTestFinished(() => access.close());
    const stop = new AbortController();
    const opened = Promise.withResolvers<void>();
    const options = { signal: stop.signal, idleMs: 20_000, onOpen: opened.resolve };
    const ended = watch(PODS.path, {}, options).next().catch(opened.reject);
    await opened.promise;
    stop.abort();
    await ended;
    const place = { namespace: 'default', pod: 'nobody', container: 'sandbox', command: ['true'] };
    const signal = AbortSignal.timeout(20_000);
    await expect(openExec({ ...place, access, signal })).rejects.toMatchObject({
      detail: 'The pod is gone.',
    });
  });

  test.for([
    ['of another authority', () => issue(ADMINISTRATORS, createAuthority('another'))],
    ['of nobody in particular', () => issue('nobody')],
  ] as const)('%s does not', async ([, certificate]) => {
    await expect(listPods(kubeconfig(secure(), asData(certificate())))).rejects.toMatchObject({
      httpStatus: 401,
    });
  });

  test('that is another in its file is used from the next call on', async () => {
    const own = asFiles(issue(ADMINISTRATORS));
    const path = kubeconfig(secure(), own);
    const access = (await loadKubeContexts(path)).access('one');
    onTestFinished(() => access.close());
    await access.connection();
    const { cert, key } = issue(ADMINISTRATORS);
    writeFileSync(own['client-certificate'], cert);
    writeFileSync(own['client-key'], key);
    const { tls } = await access.connection();
    expect([String(tls.cert), String(tls.key)]).toEqual([cert, key]);
  });
});

describe('a server without TLS', () => {
  test('is sent a credential on this machine', async () => {
    await expect(listPods(kubeconfig({ server: await startPlainServer() }, { token: 't' }))).resolves.toEqual(
      {
        asked: 'Bearer t',
      },
    );
  });

  const elsewhere = { server: 'http://192.0.2.1:8080' };
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'false' };
  test.for([
    ['a token', elsewhere, { token: 't' }],
    ['a token file', elsewhere, { tokenFile: 'token' }],
    ['a password', elsewhere, { username: 'u', password: 'p' }],
    ['a plugin’s credential', elsewhere, { exec }],
    ['a token by a name that only looks like here', { server: 'http://127.0.0.1.example' }, { token: 't' }],
    ['a token by a proxy', { server: 'http://localhost', 'proxy-url': 'http://192.0.2.1' }, { token: 't' }],
    ['a token with TLS verification off', { ...elsewhere, 'insecure-skip-tls-verify': true }, { token: 't' }],
  ] as const)('is not sent %s over a network', async ([, cluster, user]) => {
    const path = kubeconfig(cluster, user);
    const contexts = await loadKubeContexts(path);
    expect(() => contexts.access('one')).toThrow(
      `Context 'one' of ${path} has a server without TLS, to which no credential is sent: use https.`,
    );
  });

  test('needs no credential', async () => {
    const contexts = await loadKubeContexts(kubeconfig(elsewhere));
    expect(contexts.access('one').server).toBe('http://192.0.2.1:8080');
  });
});

test('a proxy that is no URL is said', async () => {
  const path = kubeconfig({ ...secure(), 'proxy-url': 'proxy.example:3128' }, { token: 't' });
  const contexts = await loadKubeContexts(path);
  expect(() => contexts.access('one')).toThrow(`Context 'one' of ${path} has a proxy that is no URL.`);
});

describe.each([
  ['a folder', () => folder, 'is no file'],
  [
    'a FIFO',
    () => {
      const path = newFile();
      execFileSync('mkfifo', [path]);
      return path;
    },
    'is no file',
  ],
  [
    'larger than any',
    () => {
      const path = newFile();
      writeFileSync(path, '');
      truncateSync(path, MAX_CREDENTIAL_BYTES + 1);
      return path;
    },
    `is larger than ${MAX_CREDENTIAL_BYTES} bytes`,
  ],
] as const)('a file of a context that is %s', (_, make, words) => {
  test.for(['certificate-authority', 'client-certificate', 'client-key'])(
    'is named and holds nothing up: %s',
    async (member) => {
      const bad = make();
      const own = api.authority.issue({ name: 'own' });
      const certificate = newFile();
      writeFileSync(certificate, own.cert);
      const isCluster = member === 'certificate-authority';
      const path = kubeconfig(
        isCluster ? { server: api.url, [member]: bad } : secure(),
        isCluster ? { token: 't' } : { 'client-certificate': certificate, [member]: bad },
      );
      const contexts = await loadKubeContexts(path);
      expect(() => contexts.access('one')).toThrow(
        `Context 'one' of ${path} names '${bad}', which ${words}.`,
      );
    },
  );

  test('is named and holds nothing up: tokenFile', async () => {
    const bad = make();
    await expect(listPods(kubeconfig(secure(), { tokenFile: bad }))).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: `The token file '${bad}' ${words}.`,
    });
  });
});

test('an authority of the largest size is read', async () => {
  const authority = newFile();
  writeFileSync(authority, api.authority.cert);
  truncateSync(authority, MAX_CREDENTIAL_BYTES);
  const path = kubeconfig({ server: api.url, 'certificate-authority': authority });
  expect((await loadKubeContexts(path)).access('one').server).toBe(api.url);
});

test('certificates and keys that stand in a kubeconfig override the files that it names', async () => {
  const other = createAuthority();
  const own = api.authority.issue({ name: 'admin', organization: ADMINISTRATORS });
  const wrong = other.issue({ name: 'admin', organization: ADMINISTRATORS });
  const file = (text: string) => {
    const path = newFile();
    writeFileSync(path, text);
    return path;
  };
  const data = (text: string) => Buffer.from(text).toString('base64');
  const user = {
    'client-certificate': file(wrong.cert),
    'client-certificate-data': data(own.cert),
    'client-key': file(wrong.key),
    'client-key-data': data(own.key),
  };
  const cluster = {
    server: api.url,
    'certificate-authority': file(other.cert),
    'certificate-authority-data': data(api.authority.cert),
  };
  expect(await listPods(kubeconfig(cluster, user))).toMatchObject({ items: expect.anything() });
});

test('of a token and a token file the file counts, and the token where the file was never read', async () => {
  const tokenFile = newFile();
  const path = kubeconfig(secure(), { token: 'here', tokenFile });
  const access = (await loadKubeContexts(path)).access('one');
  const token = async () => (await access.connection()).headers.authorization;
  expect(await token()).toBe('Bearer here');
  writeFileSync(tokenFile, '');
  expect(await token()).toBe('Bearer here');
  writeFileSync(tokenFile, 'in the file\n');
  expect(await token()).toBe('Bearer in the file');
  rmSync(tokenFile);
  expect(await token()).toBe('Bearer in the file');
});
