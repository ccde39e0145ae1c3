import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { limitPlugins } from '../../../agent/backends/kubernetes/exec-plugin.ts';
import { SETTLED_MS } from '../../../agent/backends/kubernetes/follow-log.ts';
import { FOLLOW_MS, followAccess } from '../../../agent/backends/kubernetes/followed-access.ts';
import { createKubeClient, type KubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import { type KubeAccess, loadKubeContexts } from '../../../agent/backends/kubernetes/kube-config.ts';
import { openKubeFolder } from '../../fakes/kube-api/kube-folder.ts';

const { api, folder, newFile } = await openKubeFolder();
const PODS = { method: 'GET', path: '/api/v1/namespaces/default/pods' } as const;

async function clientOf(path: string): Promise<KubeClient> {
  const client = createKubeClient((await loadKubeContexts(path)).access('fake'));
  onTestFinished(() => client.access.close());
  return client;
}

/** A kubeconfig whose plugin is this shell script, and what lies beside it. */
function withPlugin(
  script: string,
  { cluster = {}, exec = {} }: { cluster?: object; exec?: object } = {},
): { path: string; told: string; says(token: string): void; asked(): number } {
  const [path, told, log] = [newFile(), newFile(), newFile()];
  const plugin = newFile();
  writeFileSync(log, '');
  writeFileSync(
    plugin,
    `#!/bin/sh\necho asked >> ${log}\n${script.replaceAll('$TOLD', told).replaceAll('$LOG', log)}\n`,
  );
  chmodSync(plugin, 0o700);
  const config = JSON.parse(api.kubeconfig({ token: 'unused' }));
  const apiVersion = 'client.authentication.k8s.io/v1';
  config.users[0].user = { exec: { apiVersion, command: `./${plugin.slice(folder.length + 1)}`, ...exec } };
  Object.assign(config.clusters[0].cluster, cluster);
  config.clusters.push({ ...config.clusters[0], name: 'other' });
  config.contexts.push({ name: 'other', context: { cluster: 'other', user: 'agent' } });
  writeFileSync(path, JSON.stringify(config));
  return {
    path,
    told,
    says(token) {
      api.kubeconfig({ token });
      const credential = { apiVersion, kind: 'ExecCredential', status: { token } };
      writeFileSync(told, JSON.stringify(credential));
    },
    asked: () => readFileSync(log, 'utf8').split('\n').length - 1,
  };
}

describe('a credential that the server no longer takes', () => {
  test('is replaced by what the kubeconfig says now, within the call that was refused', async () => {
    const path = newFile();
    writeFileSync(path, api.kubeconfig({ token: 'first' }));
    const client = await clientOf(path);
    await client.call(PODS);
    api.revoke('first');
    writeFileSync(path, api.kubeconfig({ token: 'second' }));
    await expect(client.call(PODS)).resolves.toMatchObject({ items: [] });
  });

  test('is asked of its plugin again, although that named no end of it', async () => {
    const plugin = withPlugin('cat $TOLD');
    plugin.says('plugin-1');
    const client = await clientOf(plugin.path);
    await client.call(PODS);
    await client.call(PODS);
    expect(plugin.asked()).toBe(1);
    api.revoke('plugin-1');
    plugin.says('plugin-2');
    await expect(client.call(PODS)).resolves.toMatchObject({ items: [] });
    expect(plugin.asked()).toBe(2);
  });

  test('is said where there is no other, and costs one more call', async () => {
    const path = newFile();
    writeFileSync(path, api.kubeconfig({ token: 'only' }));
    const client = await clientOf(path);
    api.revoke('only');
    await expect(client.call(PODS)).rejects.toMatchObject({ httpStatus: 401 });
    expect(client.calls).toBe(2);
  });
});

describe('an exec plugin', () => {
  test('is started once for all who wait for it', async () => {
    const plugin = withPlugin('sleep 0.2; cat $TOLD');
    plugin.says('shared');
    const client = await clientOf(plugin.path);
    await Promise.all(Array.from({ length: 20 }, () => client.call(PODS)));
    expect(plugin.asked()).toBe(1);
  });

  test('is told what it is asked for, and has nobody who types', async () => {
    const seen = newFile();
    const plugin = withPlugin(`echo "$KUBERNETES_EXEC_INFO" > ${seen}; cat >> ${seen}; cat $TOLD`);
    plugin.says('told');
    await (await clientOf(plugin.path)).call(PODS);
    expect(JSON.parse(readFileSync(seen, 'utf8'))).toEqual({
      kind: 'ExecCredential',
      apiVersion: 'client.authentication.k8s.io/v1',
      spec: { interactive: false },
    });
  });

  const wants = { provideClusterInfo: true };
  const SAYS_WHERE =
    'case "$KUBERNETES_EXEC_INFO" in *\'"cluster":{"server":\'*) cat $TOLD;; *) exit 1;; esac';

  test('that wants to know of which cluster a credential is asked gets no other’s', async () => {
    const plugin = withPlugin(SAYS_WHERE, { exec: wants });
    plugin.says('where');
    const contexts = await loadKubeContexts(plugin.path);
    for (const name of ['fake', 'other']) {
      const client = createKubeClient(contexts.access(name));
      onTestFinished(() => client.access.close());
      await expect(client.call(PODS)).resolves.toMatchObject({ items: [] });
    }
    expect(plugin.asked()).toBe(2);
  });

  test('that does not say so is not told', async () => {
    const plugin = withPlugin(SAYS_WHERE);
    plugin.says('nowhere');
    await expect((await clientOf(plugin.path)).call(PODS)).rejects.toMatchObject({
      detail: expect.stringMatching(/^No credential can be had for .*: its plugin '.*' gave none\.$/),
    });
  });

  test.each(['{}', '{"status":{}}', 'null', '{'])(
    'that answers %s is asked again for the next call',
    async (answer) => {
      const plugin = withPlugin('cat $TOLD');
      plugin.says('good');
      const seldom = withPlugin(`[ $(wc -l < $LOG) = 1 ] && echo '${answer}' || cat ${plugin.told}`);
      const client = await clientOf(seldom.path);
      await expect(client.call(PODS)).rejects.toMatchObject({ code: 'backend_unavailable' });
      await expect(client.call(PODS)).resolves.toMatchObject({ items: [] });
      expect(seldom.asked()).toBe(2);
    },
  );

  test('is told all that there is to know of a cluster', async () => {
    const [seen, authority] = [newFile(), newFile()];
    writeFileSync(authority, api.authority.cert);
    const cluster = {
      server: 'https://127.0.0.1:1',
      'tls-server-name': 'localhost',
      'insecure-skip-tls-verify': true,
      'proxy-url': 'http://127.0.0.1:2',
    };
    const files = { 'certificate-authority': authority, 'certificate-authority-data': undefined };
    const script = `echo "$KUBERNETES_EXEC_INFO" > ${seen}; cat $TOLD`;
    const plugin = withPlugin(script, { cluster: { ...cluster, ...files }, exec: wants });
    plugin.says('all');
    await (await clientOf(plugin.path)).access.connection();
    const data = Buffer.from(api.authority.cert).toString('base64');
    expect(JSON.parse(readFileSync(seen, 'utf8')).spec).toEqual({
      interactive: false,
      cluster: { ...cluster, 'certificate-authority-data': data },
    });
  });

  test('that hangs holds no call longer than the call may take', async () => {
    const client = await clientOf(withPlugin('exec sleep 5').path);
    await expect(client.call({ ...PODS, timeoutMs: 100 })).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: "No credential could be had in time for context 'fake'.",
    });
  });

  test('that hangs is ended', async () => {
    const config = new KubeConfig();
    config.loadFromString(readFileSync(withPlugin('').path, 'utf8'));
    config.users = [{ name: 'agent', exec: { command: 'sleep', args: ['600'] } }];
    limitPlugins(config, 100);
    await expect(config.applyToHTTPSOptions({})).rejects.toThrow();
  });
});

describe('a kubeconfig that changes', () => {
  const plain = (server: string): KubeAccess & { closed: boolean } => ({
    context: 'c',
    server,
    isProxied: false,
    namespace: undefined,
    agent: undefined as never,
    vitalAgent: undefined as never,
    closed: false,
    connection: async () => ({ headers: { server }, tls: {}, proxy: undefined }),
    refused: async () => false,
    retire() {},
    close() {
      this.closed = true;
    },
  });

  test('is read again, and only then', async () => {
    let [stamp, reads] = ['1', 0];
    const access = followAccess({
      first: plain('https://one'),
      firstStamp: '1',
      read: async () => {
        reads += 1;
        return plain('https://two');
      },
      stamp: () => stamp,
      followMs: 0,
    });
    await access.connection();
    expect([access.server, reads]).toEqual(['https://one', 0]);
    stamp = '2';
    expect((await access.connection()).headers).toEqual({ server: 'https://two' });
    await access.connection();
    expect([access.server, reads]).toEqual(['https://two', 1]);
  });

  test('is used as it was while it cannot be read, and looked at again', async () => {
    let [stamp, broken] = ['1', true];
    const access = followAccess({
      first: plain('https://one'),
      firstStamp: '1',
      read: async () => {
        if (broken) throw new Error('half a file');
        return plain('https://two');
      },
      stamp: () => stamp,
      followMs: 0,
    });
    stamp = '2';
    expect((await access.connection()).headers).toEqual({ server: 'https://one' });
    broken = false;
    expect((await access.connection()).headers).toEqual({ server: 'https://two' });
  });

  test('between its stamp and its first reading is read again', async () => {
    const access = followAccess({
      first: plain('https://one'),
      firstStamp: '1',
      read: async () => plain('https://two'),
      stamp: () => '2',
      followMs: 0,
    });
    expect((await access.connection()).headers).toEqual({ server: 'https://two' });
  });

  test('in the home directory is followed like any other', async () => {
    const home = newFile();
    mkdirSync(join(home, '.kube'), { recursive: true });
    const path = join(home, '.kube', 'config');
    writeFileSync(path, api.kubeconfig({ token: 'home-1' }));
    vi.stubEnv('HOME', home);
    onTestFinished(() => void vi.unstubAllEnvs());
    const contexts = await loadKubeContexts();
    expect(contexts.fileOf('fake')).toBe(path);
    const access = contexts.access('fake');
    onTestFinished(() => access.close());
    const tokenAfter = async (ms: number) => {
      vi.spyOn(performance, 'now').mockReturnValue(performance.now() + ms);
      const { headers } = await access.connection();
      vi.restoreAllMocks();
      return headers.authorization;
    };
    expect(await tokenAfter(0)).toBe('Bearer home-1');
    writeFileSync(path, api.kubeconfig({ token: 'home-second' }));
    expect(await tokenAfter(FOLLOW_MS)).toBe('Bearer home-second');
  });

  test('is followed again after it could not even be looked at', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const path = newFile();
    writeFileSync(path, api.kubeconfig({ token: 'first' }));
    const access = (await loadKubeContexts(path)).access('fake');
    onTestFinished(() => access.close());
    const tokenLater = async () => {
      vi.advanceTimersByTime(FOLLOW_MS);
      return (await access.connection()).headers.authorization;
    };
    expect(await tokenLater()).toBe('Bearer first');
    // A link to itself: no stat tells of it.
    unlinkSync(path);
    symlinkSync(path, path);
    expect([await access.refused(), await tokenLater()]).toEqual([false, 'Bearer first']);
    unlinkSync(path);
    writeFileSync(path, api.kubeconfig({ token: 'second' }));
    expect(await tokenLater()).toBe('Bearer second');
  });

  test('after its owner has gone leaves no access open', async () => {
    const next = plain('https://two');
    const reading = Promise.withResolvers<KubeAccess>();
    const access = followAccess({
      first: plain('https://one'),
      firstStamp: '',
      read: () => reading.promise,
      stamp: () => '',
    });
    const refused = access.refused();
    access.close();
    reading.resolve(next);
    expect(await refused).toBe(false);
    expect(next.closed).toBe(true);
  });
});

/** The file that a credential stands in, and the user that names it. */
const PLACES: [what: string, user: object, isWhole: boolean][] = [
  ['kubeconfig', { token: 'kept' }, true],
  ['token file', { tokenFile: '$FILE' }, false],
];

describe.for(PLACES)('a %s that cannot be read any more', ([what, user, isWhole]) => {
  test('is named once in the log, if it stays so, and its credential used on', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const [path, tokenFile] = [newFile(), newFile()];
    const config = JSON.parse(api.kubeconfig({ token: 'kept' }));
    config.users[0].user = user;
    writeFileSync(path, JSON.stringify(config).replaceAll('$FILE', tokenFile));
    writeFileSync(tokenFile, 'kept');
    const file = isWhole ? path : tokenFile;
    const log = vi.fn();
    const access = (await loadKubeContexts(path, { log })).access('fake');
    onTestFinished(() => access.close());
    /** Uses it every second, as renewals of a Lease and their repetitions do. */
    const serve = async (ms: number) => {
      for (let servedMs = 0; servedMs < ms; servedMs += 1_000) {
        vi.advanceTimersByTime(1_000);
        expect((await access.connection()).headers.authorization).toBe('Bearer kept');
      }
    };
    await serve(FOLLOW_MS);
    const detail = expect.stringMatching(new RegExp(`${what} '${file}' cannot be read.* is used on\\.$`));
    // The same file comes back, as one that is moved away and back.
    for (let times = 0; times < 2; times += 1) {
      log.mockClear();
      renameSync(file, `${file}.away`);
      await serve(SETTLED_MS);
      expect(log).not.toHaveBeenCalled();
      await serve(10 * FOLLOW_MS);
      expect(log.mock.calls).toEqual([['credential_not_followed', { detail }]]);
      renameSync(`${file}.away`, file);
      await serve(FOLLOW_MS);
      expect(log.mock.calls.slice(1)).toEqual([['credential_followed_again', {}]]);
    }
  });
});
