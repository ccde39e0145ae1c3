import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type EngineSettings, engineAddress } from '../../../agent/backends/docker/engine-address.ts';
import { Failure } from '../../../shared/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'podgate-engine-'));
afterAll(() => rmSync(folder, { recursive: true }));
for (const name of ['ca', 'cert', 'key']) writeFileSync(join(folder, `${name}.pem`), name);

const address = (settings: Partial<EngineSettings>) =>
  engineAddress({
    host: undefined,
    tlsVerify: false,
    certPath: undefined,
    sockets: ['/nowhere'],
    ...settings,
  });

function refusal(settings: Partial<EngineSettings>): string {
  try {
    address(settings);
  } catch (error) {
    if (error instanceof Failure && error.code === 'invalid_request') return error.detail;
    throw error;
  }
  return 'was accepted';
}

describe('the address of an engine', () => {
  test('is the socket that is named', () => {
    const found = address({ host: 'unix:///run/other.sock' });
    expect(found.kind === 'socket' && found.path()).toBe('/run/other.sock');
  });

  test('is the first socket that is there at each connection, where none is named', () => {
    const late = join(folder, 'late.sock');
    const found = address({ sockets: ['/nowhere/docker.sock', late] });
    const path = () => found.kind === 'socket' && found.path();
    expect(path()).toBe('/nowhere/docker.sock');
    writeFileSync(late, '');
    expect(path()).toBe(late);
    expect(found.shown).toBe(`unix://${late}`);
  });

  test.for([
    [{ host: 'tcp://127.0.0.1:1234' }, '127.0.0.1', 1234, false],
    [{ host: 'tcp://localhost' }, 'localhost', 2375, false],
    [{ host: 'http://[::1]:9' }, '::1', 9, false],
    [{ host: 'tcp://engine.example', tlsVerify: true, certPath: folder }, 'engine.example', 2376, true],
    [{ host: 'tcp://engine.example:99', certPath: folder }, 'engine.example', 99, true],
    [{ host: 'https://engine.example/', certPath: folder }, 'engine.example', 2376, true],
  ] as [Partial<EngineSettings>, string, number, boolean][])(
    'of %j is understood',
    ([settings, host, port, hasTls]) => {
      const found = address(settings);
      expect(found).toMatchObject({ kind: 'tcp', host, port });
      const tls = found.kind === 'tcp' ? found.tls?.() : undefined;
      expect(tls).toEqual(hasTls ? { ca: 'ca', cert: 'cert', key: 'key' } : undefined);
    },
  );

  test.for([
    [{ host: 'tcp://engine.example:2375' }, /plain connection to another machine.*DOCKER_TLS_VERIFY=1/],
    [{ host: 'http://127.0.0.1.example' }, /plain connection/],
    [{ host: 'ssh://engine.example' }, /not supported: use unix:/],
    [{ host: 'npipe:////./pipe/docker_engine' }, /not supported/],
    [{ host: 'unix://relative' }, /not supported/],
    [{ host: 'tcp://' }, /not supported/],
    [{ host: 'tcp://127.0.0.1:2375/path' }, /not supported/],
    [{ host: '/var/run/docker.sock' }, /use unix:/],
    [{ host: 'tcp://engine.example', tlsVerify: true }, /DOCKER_CERT_PATH is not set/],
    [{ host: 'tcp://engine.example', certPath: '/nowhere' }, /'\/nowhere\/ca.pem' cannot be read \(ENOENT\)/],
  ] as [Partial<EngineSettings>, RegExp][])('of %j stops the boot', ([settings, sentence]) => {
    expect(refusal(settings)).toMatch(sentence);
  });
});
