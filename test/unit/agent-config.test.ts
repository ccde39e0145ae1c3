import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { AGENT_VARIABLE_NAMES, readAgentConfig } from '../../agent/config.ts';
import { startConfiguredAgent } from '../../agent/run-agent.ts';
import { defaultTemplate } from '../../agent/templates/default-template.ts';
import { Failure } from '../../shared/errors.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

const folder = mkdtempSync(join(tmpdir(), 'podgate-config-'));
afterAll(() => rmSync(folder, { recursive: true }));
const NEEDED = { PODGATE_GATEWAY_URL: 'https://gate.example', PODGATE_AGENT_TOKEN: 'podgate_agent_hush' };
const read = (environment: Record<string, string> = {}) =>
  readAgentConfig({ environment: { ...NEEDED, ...environment } });

function refusal(environment: Record<string, string>, base: Record<string, string> = NEEDED): string {
  try {
    readAgentConfig({ environment: { ...base, ...environment } });
  } catch (error) {
    if (error instanceof Failure) return error.detail;
    throw error;
  }
  return 'was accepted';
}

describe("the agent's configuration", () => {
  test('has defaults, is frozen, and shows no secret', () => {
    const config = read();
    expect(config).toMatchObject({
      backend: 'kubernetes',
      http: { host: '127.0.0.1', port: 8081 },
      maxOutputBytes: 1_000_000,
      drainMs: 30_000,
      unsafe: false,
      templatesFile: undefined,
    });
    expect(Object.isFrozen(config)).toBe(true);
    expect(config.credential().reveal()).toBe('podgate_agent_hush');
    expect(inspect(config, { depth: 9 }) + JSON.stringify(config)).not.toContain('hush');
  });

  test('keeps the local backend to gateways on this machine unless told', () => {
    const local = { EXECUTOR_BACKEND: 'local' };
    for (const host of ['127.0.0.1', '127.1.2.3', 'localhost', '[::1]'])
      expect(read({ ...local, PODGATE_GATEWAY_URL: `http://${host}:8000` }).backend).toBe('local');
    for (const host of ['gate.example', '127.0.0.1.example', '0.0.0.0', '10.0.0.1'])
      expect(refusal({ ...local, PODGATE_GATEWAY_URL: `http://${host}:8000` })).toContain(
        'is on another machine',
      );
    expect(read({ ...local, PODGATE_ALLOW_REMOTE: 'true' }).backend).toBe('local');
  });

  test('names a cluster after the machine where nobody names it', () => {
    expect(read().cluster).toMatch(/^[a-z0-9-]{1,63}$/);
    expect(read({ PODGATE_CLUSTER: 'lab-1' }).cluster).toBe('lab-1');
  });

  test('keeps the names of the services that people move from', () => {
    const { templateVariables, kubernetes } = read({
      POOL_SIZE: '30',
      MAX_EXEC_TIMEOUT_MS: '5000',
      CPU_TIME_LIMIT_SEC: '7',
      MEMORY_LIMIT_MB: '512',
      KUBERNETES_EXECUTOR_IMAGE: 'python-executor-sci',
      KUBERNETES_NAMESPACE: 'runs',
      KUBERNETES_EXECUTOR_SERVICE_ACCOUNT: 'runs',
      KUBE_CONTEXTS: 'a, b=c',
    });
    expect(templateVariables).toEqual({
      POOL_SIZE: 30,
      MAX_EXEC_TIMEOUT_MS: 5_000,
      CPU_TIME_LIMIT_SEC: 7,
      MEMORY_LIMIT_MB: 512,
      KUBERNETES_IMAGE: 'python-executor-sci',
      KUBERNETES_SERVICE_ACCOUNT: 'runs',
    });
    expect(kubernetes).toMatchObject({
      namespace: 'runs',
      contexts: ['a', 'b=c'],
      installation: 'podgate',
    });
  });

  test('serves the context that livecodebench names, unless contexts of its own are named', () => {
    const given = { LIVECODEBENCH_K8S_LOCAL: 'false', LIVECODEBENCH_K8S_CONTEXT: 'production-cluster' };
    expect(read(given).kubernetes.contexts).toEqual(['production-cluster']);
    expect(read({ PODGATE_K8S_CONTEXT: 'far' }).kubernetes.contexts).toEqual(['far']);
    expect(read({ ...given, KUBE_CONTEXTS: 'a=production-cluster' }).kubernetes.contexts).toEqual([
      'a=production-cluster',
    ]);
  });

  test('reads a credential from a file each time it is asked, so that a newer one counts', () => {
    const file = join(folder, 'credential');
    writeFileSync(file, 'podgate_agent_one\n');
    const config = readAgentConfig({
      environment: { PODGATE_GATEWAY_URL: 'https://gate.example', PODGATE_AGENT_TOKEN_FILE: file },
    });
    expect(config.credential().reveal()).toBe('podgate_agent_one');
    writeFileSync(file, 'podgate_agent_two\n');
    expect(config.credential().reveal()).toBe('podgate_agent_two');
  });

  test.for([
    [{ PODGATE_GATEWAY_URL: '' }, /^PODGATE_GATEWAY_URL is not set/],
    [{ PODGATE_AGENT_TOKEN: '' }, /^PODGATE_AGENT_TOKEN is not set: use the credential/],
    [{ PODGATE_AGENT_TOKEN_FILE: '/nowhere' }, /both set/],
    [
      { PODGATE_AGENT_TOKEN: '', PODGATE_AGENT_TOKEN_FILE: '/nowhere' },
      /'\/nowhere', which cannot be read \(ENOENT\)/,
    ],
    [{ PODGATE_GATEWAY_CA_FILE: '/nowhere' }, /^PODGATE_GATEWAY_CA_FILE names '\/nowhere'/],
    [{ PODGATE_GATEWAY_URL: 'ftp://x' }, /'ftp:\/\/x' is not accepted: use a URL/],
    [{ PODGATE_AGENT_PORT: '65536' }, /use an integer from 0 to 65535/],
    [{ PODGATE_CLUSTER: 'Big' }, /'Big' is not accepted: use 1 to 63/],
    [{ PODGATE_DRIAN_MS: '1' }, /did you mean PODGATE_DRAIN_MS\?/],
  ] as [Record<string, string>, RegExp][])('%j stops the boot', ([environment, sentence]) => {
    expect(refusal(environment)).toMatch(sentence);
  });

  test("lets another command's names through only when told of them", () => {
    expect(refusal({ PODGATE_ISSUERS: 'x' })).toMatch(/PODGATE_ISSUERS/);
    readAgentConfig({ environment: { ...NEEDED, PODGATE_ISSUERS: 'x' }, alsoKnown: ['PODGATE_ISSUERS'] });
    expect(AGENT_VARIABLE_NAMES).toContain('PODGATE_DRAIN_MS');
  });

  test('reads what names an engine under the names that every tool of Docker’s reads', () => {
    const none = read({ EXECUTOR_BACKEND: 'docker', HOME: '/home/a', XDG_RUNTIME_DIR: '/run/user/1' });
    expect(none.docker).toEqual({
      host: undefined,
      tlsVerify: false,
      certPath: undefined,
      installation: 'podgate',
      sockets: [
        '/var/run/docker.sock',
        '/run/user/1/docker.sock',
        '/home/a/.docker/run/docker.sock',
        '/run/user/1/podman/podman.sock',
        '/run/podman/podman.sock',
      ],
    });
    const all = { DOCKER_HOST: 'tcp://engine:2376', DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: '/certs' };
    expect(read({ ...all, EXECUTOR_BACKEND: 'docker' }).docker).toMatchObject({
      host: 'tcp://engine:2376',
      tlsVerify: true,
      certPath: '/certs',
    });
  });

  test('takes the image that is set for its own backend', () => {
    const both = { DOCKER_IMAGE: 'for-docker', KUBERNETES_IMAGE: 'for-pods' };
    expect(defaultTemplate(read({ ...both, EXECUTOR_BACKEND: 'docker' }).templateVariables).image).toBe(
      'for-docker',
    );
    expect(defaultTemplate(read(both).templateVariables).image).toBe('for-pods');
  });

  test('names what other tools take a proxy from, which it passes over, as it starts', async () => {
    expect(read({ NO_PROXY: 'x', ALL_PROXY: '' }).proxyVariables).toEqual([]);
    const proxies = { HTTPS_PROXY: 'http://user:secret@proxy', http_proxy: 'http://proxy' };
    const config = read({ ...proxies, EXECUTOR_BACKEND: 'docker', DOCKER_HOST: 'nothing://' });
    expect(config.gatewayProxy).toBe(proxies.HTTPS_PROXY);
    const log = vi.fn();
    await expect(startConfiguredAgent({ config, software: 'podgate/test', log })).rejects.toThrow();
    expect(log.mock.calls).toEqual([['proxies_passed_over', { variables: ['http_proxy'] }]]);
    const near = { PODGATE_GATEWAY_URL: 'http://gateway.test', HTTPS_PROXY: 'http://proxy' };
    expect(read(near).proxyVariables).toEqual([]);
    expect(read({ ...near, EXECUTOR_BACKEND: 'docker' }).proxyVariables).toEqual(['HTTPS_PROXY']);
  });

  test('nothing is followed any more once the start has failed', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    onTestFinished(() => void taken.close());
    const file = join(folder, 'templates.yaml');
    writeFileSync(file, 'templates:\n  - name: default\n');
    const config = read({
      EXECUTOR_BACKEND: 'docker',
      DOCKER_HOST: `unix://${folder}/none.sock`,
      HOST: '127.0.0.1',
      PODGATE_AGENT_PORT: String((taken.address() as AddressInfo).port),
      PODGATE_TEMPLATES: file,
    });
    const clock = createFakeClock();
    const starting = startConfiguredAgent({ config, software: 'podgate/test', log: () => {}, clock });
    await expect(starting).rejects.toThrow('EADDRINUSE');
    await clock.settle();
    expect(clock.pending).toBe(0);
  });

  test('an engine that no agent can use stops the boot', async () => {
    const config = read({ EXECUTOR_BACKEND: 'docker', DOCKER_HOST: 'ssh://engine' });
    const starting = startConfiguredAgent({ config, software: 'podgate/test', log: () => {} });
    await expect(starting).rejects.toMatchObject({
      code: 'invalid_request',
      detail: expect.stringContaining('DOCKER_HOST'),
    });
  });
});
