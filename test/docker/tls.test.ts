import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createRunnerClient } from '../../agent/runner/client.ts';
import { createTestEngine } from '../fakes/docker-engine.ts';
import { freePort } from '../fakes/free-port.ts';
import { type Authority, createAuthority } from '../fakes/kube-api/certificates.ts';
import { type OwnEngine, startOwnEngine } from '../fakes/own-engine.ts';
import { runOn } from '../fakes/runner-run.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const soon = () => AbortSignal.timeout(30_000);
const PRINTED_BYTES = 4_000_000;

/** As `DOCKER_CERT_PATH` names it. */
async function writeFolder(folder: string, ca: Authority, signer: Authority): Promise<string> {
  const { cert, key } = signer.issue({ name: 'localhost' });
  await mkdir(folder);
  await writeFile(join(folder, 'ca.pem'), ca.cert);
  await writeFile(join(folder, 'cert.pem'), cert);
  await writeFile(join(folder, 'key.pem'), key, { mode: 0o600 });
  return folder;
}

describe('an engine behind TCP with TLS', () => {
  const [ca, other] = [createAuthority('test authority'), createAuthority('another authority')];
  let dir: string;
  let own: OwnEngine;
  let host: string;
  let folder: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'podgate-docker-tls-'));
    const server = await writeFolder(join(dir, 'server'), ca, ca);
    folder = await writeFolder(join(dir, 'client'), ca, ca);
    host = `tcp://127.0.0.1:${await freePort()}`;
    const files = { tlscacert: 'ca.pem', tlscert: 'cert.pem', tlskey: 'key.pem' };
    const options = Object.entries(files).map(([name, file]) => `--${name}=${join(server, file)}`);
    own = await startOwnEngine({ flags: ['--host', host, '--tlsverify', ...options] });
  });
  afterAll(async () => {
    await own?.[Symbol.asyncDispose]();
    await rm(dir, { recursive: true });
  });

  test('is used as one behind a socket is: containers, streams, much output', async () => {
    await using engine = createTestEngine(host, folder);
    const backend = await engine.backend();
    const sandbox = await backend.create(await engine.template(), soon());
    const client = createRunnerClient({ stream: await backend.connect(sandbox, soon()), epoch: 1 });
    const ran = await runOn(client, 1, `print("x" * ${PRINTED_BYTES})`, {
      maxOutputBytes: PRINTED_BYTES + 1,
    });
    expect(ran.stdout).toBe(`${'x'.repeat(PRINTED_BYTES)}\n`);
    await backend.destroy(sandbox);
    expect(await backend.list()).toEqual([]);
  });

  test('whose certificate is of another authority is not spoken to', async () => {
    await using engine = createTestEngine(host, await writeFolder(join(dir, 'distrusting'), other, ca));
    await expect(engine.backend()).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: expect.stringContaining('its certificate is not of ca.pem'),
    });
  });

  test('takes nobody with a certificate of another authority, nor anybody without TLS', async () => {
    await using stranger = createTestEngine(host, await writeFolder(join(dir, 'stranger'), ca, other));
    await expect(stranger.backend()).rejects.toMatchObject({ code: 'backend_unavailable' });
    await using plain = createTestEngine(host);
    await expect(plain.backend()).rejects.toMatchObject({
      code: 'backend_unavailable',
      detail: expect.stringContaining('wants TLS'),
    });
  });
});
