import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readAgentConfig } from '../../agent/config.ts';
import { defaultTemplate } from '../../agent/templates/default-template.ts';
import { readGatewayConfig } from '../../gateway/node/config.ts';
import { parseTemplate } from '../../shared/template.ts';
import { startPodgate } from '../fakes/podgate-command.ts';
import { describeSandboxed } from '../system/suite.ts';

/** What the services that people move from promise of their settings, shown by name. */
const GATEWAY = { PODGATE_ISSUERS: '/issuers.json' };
const AGENT = { PODGATE_GATEWAY_URL: 'http://127.0.0.1:8000', PODGATE_AGENT_TOKEN: 'podgate_agent_x' };

describe('a setting of the services that people move from', () => {
  test('has the default that it had', async () => {
    const { host, port, files, gateway } = readGatewayConfig({ environment: GATEWAY });
    expect({ host, port, ttlMs: files?.limits.ttlMs }).toEqual({
      host: '127.0.0.1',
      port: 8_000,
      ttlMs: 3_600_000,
    });
    expect(gateway).toMatchObject({
      maxTimeoutMs: 60_000,
      maxOutputBytes: 1_000_000,
      maxFileBytes: 100 * 1_048_576,
    });
    const agent = readAgentConfig({ environment: AGENT });
    expect(agent).toMatchObject({ backend: 'kubernetes', maxOutputBytes: 1_000_000 });
    expect(await parseTemplate(defaultTemplate(agent.templateVariables))).toMatchObject({
      resources: { timeout_ms: 60_000, cpu_seconds: 5, memory_mb: 256 },
      // Theirs was one that everybody built for himself.
      image: 'python:3.13-slim',
    });
    for (const more of [{ EXECUTOR_BACKEND: 'local' }, { PODGATE_TEMPLATES: '/templates.yaml' }])
      expect(readAgentConfig({ environment: { ...AGENT, ...more } }).templateVariables.KUBERNETES_IMAGE).toBe(
        undefined,
      );
  });

  test('reaches what it is for under the name that it had', async () => {
    const environment = {
      ...AGENT,
      EXECUTOR_BACKEND: 'kubernetes',
      KUBERNETES_NAMESPACE: 'runs',
      KUBERNETES_IMAGE: 'python-executor-sci',
      KUBERNETES_SERVICE_ACCOUNT: 'runner',
      KUBECONFIG: '/path/to/kubeconfig',
      POOL_SIZE: '50',
    };
    const { backend, kubernetes, templateVariables } = readAgentConfig({ environment });
    expect({ backend, kubernetes }).toMatchObject({
      backend: 'kubernetes',
      kubernetes: { namespace: 'runs', kubeconfig: '/path/to/kubeconfig' },
    });
    expect(await parseTemplate(defaultTemplate(templateVariables))).toMatchObject({
      image: 'python-executor-sci',
      kubernetes: { service_account: 'runner' },
      pool: { min: 50, max: 50 },
    });
  });
});

describeSandboxed('podgate dev with the settings of the code-interpreter service', () => {
  let url: string;
  let key: string;
  let filesDir: string;
  const ask = (path: string, init: RequestInit = {}) =>
    fetch(`${url}${path}`, { ...init, headers: { authorization: `Bearer ${key}` } });
  const execute = async (body: object): Promise<Record<string, unknown>> => {
    const response = await ask('/v1/execute', { method: 'POST', body: JSON.stringify(body) });
    return { status: response.status, ...((await response.json()) as object) };
  };
  const upload = async (bytes: number) => {
    const form = new FormData();
    form.set('file', new File([new Uint8Array(bytes)], 'a.bin'));
    return ask('/v1/files', { method: 'POST', body: form });
  };

  async function start(): Promise<void> {
    const dir = await mkdtemp(join(tmpdir(), 'podgate-seeds-'));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    filesDir = join(dir, 'kept');
    const dev = startPodgate(['dev'], {
      env: {
        PODGATE_DIR: dir,
        HOST: '127.0.0.1',
        PORT: '0',
        POOL_SIZE: '1',
        MAX_EXEC_TIMEOUT_MS: '9000',
        MAX_OUTPUT_BYTES: '40',
        CPU_TIME_LIMIT_SEC: '1',
        MEMORY_LIMIT_MB: '64',
        MAX_FILE_SIZE_MB: '1',
        FILE_TTL_SEC: '1',
        FILE_STORAGE_DIR: filesDir,
      },
    });
    [, url = ''] = await dev.shows(/listens on (http:\S+)/);
    key = (await readFile(join(dir, 'dev-key'), 'utf8')).trim();
  }

  test('holds every one of them', async () => {
    await start();
    expect(await (await fetch(`${url}/health`)).json()).toMatchObject({ status: 'ok', message: null });
    const late = await execute({ code: '1', timeout_ms: 9_001 });
    expect(late).toMatchObject({ status: 422, detail: 'timeout_ms exceeds maximum of 9000 ms' });
    const long = await execute({ code: 'print("x" * 1000)', timeout_ms: 9_000 });
    expect(long).toMatchObject({ exit_code: 0, stdout: `${'x'.repeat(25)}\n...[truncated]` });
    const busy = await execute({ code: 'while True: pass', timeout_ms: 9_000 });
    expect(busy).toMatchObject({ status: 200, outcome: 'cpu_limit', timed_out: false });
    expect([152, 137]).toContain(busy.exit_code);
    const big = await execute({ code: 'x = bytearray(96 << 20)', timeout_ms: 9_000 });
    expect(big.exit_code === 1 ? big.stderr : big.exit_code).toEqual(
      big.exit_code === 1 ? expect.stringContaining('...[truncated]') : 137,
    );
    expect((await execute({ code: 'x = bytearray(32 << 20)', timeout_ms: 9_000 })).exit_code).toBe(0);
    expect((await upload((1 << 20) + 1)).status).toBe(413);
    const kept = await upload(1 << 20);
    expect(kept.status).toBe(201);
    const { file_id: id } = (await kept.json()) as { file_id: string };
    expect((await readdir(filesDir, { recursive: true })).some((name) => name.includes(id))).toBe(true);
    await expect
      .poll(async () => (await ask(`/v1/files/${id}`)).status, { interval: 20, timeout: 10_000 })
      .toBe(404);
    const { clusters } = (await (await ask('/v1/clusters')).json()) as {
      clusters: { templates: { slots_total: number }[] }[];
    };
    expect(clusters[0]?.templates[0]?.slots_total).toBe(1);
  });
});
