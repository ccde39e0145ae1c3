import { writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { createKubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import { type KubeAccess, loadKubeContexts } from '../../../agent/backends/kubernetes/kube-config.ts';
import { openExec } from '../../../agent/backends/kubernetes/open-exec.ts';
import { startHttpServer } from '../../fakes/http-server.ts';
import { openKubeFolder } from '../../fakes/kube-api/kube-folder.ts';

const { newFile } = await openKubeFolder();
const ALL = {
  as: 'system:serviceaccount:podgate:agent',
  'as-groups': ['sandboxes', 'nobody else'],
  'as-uid': '42',
  'as-user-extra': { scopes: ['view', 'run'], 'example.org/why': ['a test'] },
};

/** An API server without TLS, and a context of it whose user is `user`. */
async function open(user: object): Promise<{ access: () => Promise<KubeAccess>; asked: IncomingMessage[] }> {
  const { url, requests, server } = await startHttpServer((_request, response) =>
    response.end('{"items": []}'),
  );
  server.on('upgrade', (request, socket) => {
    requests.push(request);
    socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
  });
  const path = newFile();
  writeFileSync(
    path,
    JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: url } }],
      users: [{ name: 'u', user: { token: 'abc', ...user } }],
      contexts: [{ name: 'one', context: { cluster: 'c', user: 'u' } }],
    }),
  );
  async function access(): Promise<KubeAccess> {
    const opened = (await loadKubeContexts(path)).access('one');
    onTestFinished(() => opened.close());
    return opened;
  }
  return { access, asked: requests };
}

/** Each header that says as whom a request is to be taken, as often as it came. */
function impersonated(request: IncomingMessage | undefined): [name: string, values: string[] | undefined][] {
  const { headersDistinct = {} } = request ?? {};
  return Object.entries(headersDistinct).filter(([name]) => name.startsWith('impersonate-'));
}

const expected = [
  ['impersonate-extra-example.org%2fwhy', ['a test']],
  ['impersonate-extra-scopes', ['view', 'run']],
  ['impersonate-group', ['sandboxes', 'nobody else']],
  ['impersonate-uid', ['42']],
  ['impersonate-user', ['system:serviceaccount:podgate:agent']],
];

test('a user that acts as another is that one to the cluster, in calls and in execs, with groups and all', async () => {
  const { access, asked } = await open(ALL);
  await createKubeClient(await access()).call({ method: 'GET', path: '/api/v1/namespaces/n/pods' });
  const exec = {
    namespace: 'n',
    pod: 'p',
    container: 'c',
    command: ['true'],
    signal: AbortSignal.timeout(5_000),
  };
  await expect(openExec({ access: await access(), ...exec })).rejects.toMatchObject({ httpStatus: 403 });
  expect(asked).toHaveLength(2);
  for (const request of asked) expect(impersonated(request).sort()).toEqual(expected);
});

test.for(['as-groups', 'as-uid', 'as-user-extra'] as const)(
  '%s of nobody is refused, and not passed over',
  async (name) => {
    const { access } = await open({ [name]: ALL[name] });
    await expect(access()).rejects.toMatchObject({
      code: 'invalid_request',
      detail: expect.stringContaining("set 'as' too"),
    });
  },
);

test('a user that acts as nobody is itself', async () => {
  const { access, asked } = await open({ 'as-groups': [], 'as-user-extra': {} });
  await createKubeClient(await access()).call({ method: 'GET', path: '/api/v1/namespaces/n/pods' });
  expect(impersonated(asked[0])).toEqual([]);
});
