import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MAX_DOCUMENT_BYTES } from '../../gateway/auth/documents.ts';
import { createDocumentReader } from '../../gateway/node/documents.ts';
import { readIssuers, readKeyring } from '../../gateway/node/key-files.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'podgate-documents-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

describe('documents in files', () => {
  test('are read whole, as they are now', async () => {
    const file = join(dir, 'deny');
    const read = createDocumentReader();
    for (const text of ['one', 'two']) {
      writeFileSync(file, text);
      expect(await read({ file })).toBe(text);
    }
  });

  test('are refused past the bound, and where they are no files', async () => {
    const file = join(dir, 'deny');
    const read = createDocumentReader();
    writeFileSync(file, '');
    truncateSync(file, MAX_DOCUMENT_BYTES);
    expect(await read({ file })).toHaveLength(MAX_DOCUMENT_BYTES);
    truncateSync(file, MAX_DOCUMENT_BYTES + 1);
    await expect(read({ file })).rejects.toThrow(/larger/);
    await expect(read({ file: dir })).rejects.toThrow();
    await expect(read({ file: join(dir, 'none') })).rejects.toThrow();
  });

  test('that are FIFOs hold nothing up', async () => {
    const file = join(dir, 'fifo');
    execFileSync('mkfifo', [file]);
    await expect(createDocumentReader()({ file })).rejects.toThrow(/regular file/);
  });
});

describe('documents behind URLs', () => {
  async function serve(handle: (request: IncomingMessage, response: ServerResponse) => void) {
    const server = createServer(handle);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    return {
      url: `http://127.0.0.1:${port}/jwks`,
      [Symbol.dispose]() {
        server.close();
        server.closeAllConnections();
      },
    };
  }

  test('are asked for by their ETag and kept while that holds', async () => {
    const asked: unknown[] = [];
    using server = await serve((request, response) => {
      asked.push(request.headers['if-none-match']);
      if (request.headers['if-none-match'] === '"1"') response.writeHead(304).end();
      else response.writeHead(200, { etag: '"1"' }).end('text');
    });
    const read = createDocumentReader();
    expect([await read(server), await read(server)]).toEqual(['text', 'text']);
    expect(asked).toEqual([undefined, '"1"']);
  });

  test('are refused when the answer is an error, a redirect, or too large', async () => {
    using server = await serve((_, response) => response.writeHead(500).end('secret'));
    await expect(createDocumentReader()(server)).rejects.toThrow('the server answered 500');
    using other = await serve((_, response) => response.end('{}'));
    using redirect = await serve((_, response) => response.writeHead(302, { location: other.url }).end());
    expect(await createDocumentReader()(other)).toBe('{}');
    await expect(createDocumentReader()(redirect)).rejects.toThrow();
    using endless = await serve((_, response) => {
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536, 'x')));
      };
      response.on('drain', more);
      more();
    });
    await expect(createDocumentReader()(endless)).rejects.toThrow(/larger/);
  });
});

describe('files of configuration', () => {
  test('have paths of keys that are relative to them', async () => {
    const file = join(dir, 'issuers.json');
    const entry = { kind: 'callers', issuer: 'a', tenant: 'acme', jwks_file: 'sub/keys.json' };
    writeFileSync(
      file,
      JSON.stringify({ issuers: [entry, { ...entry, issuer: 'b', jwks_file: '/keys.json' }] }),
    );
    expect((await readIssuers(file)).map(({ keys }) => keys)).toEqual([
      { file: join(dir, 'sub/keys.json') },
      { file: '/keys.json' },
    ]);
  });

  test('that are missing or wrong say so, and show nothing of a secret', async () => {
    const file = join(dir, 'ids.json');
    await expect(readKeyring(file)).rejects.toThrow(/podgate keys init/);
    for (const text of [
      '{"keys":[{"k":"topsecret',
      '{"keys":[{"kty":"oct","kid":"a","k":"topsecret"}]}',
      '["topsecret"]',
    ]) {
      writeFileSync(file, text);
      await expect(readKeyring(file)).rejects.toThrow(/not valid/);
      await expect(readKeyring(file)).rejects.not.toThrow(/topsecret/);
    }
    writeFileSync(file, '{"issuers":[{"kind":"callers","issuer":"a"}]}');
    await expect(readIssuers(file)).rejects.toThrow(/exactly one of tenant/);
  });

  test('that are wrong name file, member and what is allowed, on one line that is safe for a terminal', async () => {
    const file = join(dir, 'issuers.json');
    const entry = { kind: 'callers', issuer: 'a b', tenant: 'acme', jwks_file: 'keys.json', '\u001b\n': 1 };
    writeFileSync(file, JSON.stringify({ issuers: [entry] }));
    await expect(readIssuers(file)).rejects.toThrow(
      expect.objectContaining({
        detail: `The trusted issuers in ${file} are not valid: issuers[0].issuer: use 1 to 256 visible ASCII characters; issuers[0]: Unrecognized key: "\\u001b\\u000a".`,
      }),
    );
    writeFileSync(file, JSON.stringify({ issuers: Array(6).fill({ kind: 'neither' }) }));
    await expect(readIssuers(file)).rejects.toThrow(/^[^\n]*issuers\[0\]\.kind: [^\n]*; and \d+ more\.$/);
    writeFileSync(file, '{"keys":[{"kty":"oct","kid":"a","k":"topsecret"}]}');
    await expect(readKeyring(file)).rejects.toThrow(
      / are not valid: keys\[0\]\.k: use 32 bytes in base64url\.$/,
    );
  });
});
