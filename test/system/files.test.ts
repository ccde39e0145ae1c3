import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { type ServerType, serve } from '@hono/node-server';
import { expect, onTestFinished, test } from 'vitest';
import { Podgate } from '../../client/podgate.ts';
import { openFolderFileStore } from '../../gateway/node/folder-file-store.ts';
import { createFileRoutesApp } from '../fakes/file-routes-app.ts';

const OWNER = 'acme/anna';
const MB = 1_048_576;

/** Routes, folder store and HTTP server as they are in a gateway; authentication alone is played. */
async function startFiles(maxFileBytes = 100 * MB) {
  const directory = await mkdtemp(join(tmpdir(), 'podgate-files-'));
  const limits = { maxFileBytes, maxBytes: 1_000 * MB, maxFiles: 1_000, ttlMs: 3_600_000 };
  const store = await openFolderFileStore({ directory, limits });
  const server: ServerType = serve({
    fetch: createFileRoutesApp(store).fetch,
    port: 0,
    hostname: '127.0.0.1',
  });
  await once(server, 'listening');
  onTestFinished(async () => {
    'closeAllConnections' in server && server.closeAllConnections();
    server.close();
    await store.close();
    await rm(directory, { recursive: true, force: true });
  });
  const { port } = server.address() as AddressInfo;
  const podgate = new Podgate({ baseUrl: `http://127.0.0.1:${port}` });
  const isEmpty = async () => {
    expect(await readdir(join(directory, 'incoming'))).toEqual([]);
    expect(await store.usage(OWNER)).toEqual({ bytes: 0, count: 0 });
  };
  return { store, port, podgate, directory, isEmpty };
}

const FORM_HEAD = '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n';

/** `length` counts the form's head, which is sent. */
function beginUpload(port: number, length: number): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.write(
    'POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n' +
      `Connection: close\r\nContent-Length: ${length}\r\n\r\n${FORM_HEAD}`,
  );
  return socket;
}

const descriptors = async () => (await readdir('/proc/self/fd')).length;

test('a file of 100 MB goes up and down through real sockets byte for byte', async () => {
  const { podgate, store } = await startFiles();
  const content = new Uint8Array(100 * MB).fill(7);
  content[12_345_678] = 8;
  const { file_id, size_bytes } = await podgate.files.upload(content, { filename: 'big.bin' });
  expect(size_bytes).toBe(100 * MB);
  const { body, filename } = await podgate.files.download(file_id);
  expect(filename).toBe('big.bin');
  let at = 0;
  for await (const chunk of body) {
    expect(Buffer.compare(chunk, content.subarray(at, at + chunk.byteLength))).toBe(0);
    at += chunk.byteLength;
  }
  expect(at).toBe(100 * MB);
  await podgate.files.delete(file_id);
  await expect(store.stat(OWNER, file_id)).rejects.toMatchObject({ code: 'not_found' });
});

test('a client that sends too much and only then listens gets its 413, not a broken pipe', async () => {
  const { port, isEmpty } = await startFiles(MB);
  const length = 30 * MB;
  const socket = beginUpload(port, length);
  const errors: Error[] = [];
  socket.on('error', (error) => errors.push(error));
  const chunk = Buffer.alloc(MB);
  for (let sent = FORM_HEAD.length; sent < length; ) {
    const part = chunk.subarray(0, Math.min(MB, length - sent));
    sent += part.byteLength;
    if (!socket.write(part)) await once(socket, 'drain');
  }
  const answer = (await buffer(socket)).toString();
  expect(answer).toMatch(/^HTTP\/1.1 413 /);
  expect(answer).toContain('File size exceeds maximum of 1 MB');
  expect(errors).toEqual([]);
  await isEmpty();
});

test('an upload whose client goes away leaves nothing behind', async () => {
  const { port, store, isEmpty } = await startFiles();
  const socket = beginUpload(port, 10 * MB);
  socket.on('error', () => {});
  socket.write(Buffer.alloc(MB));
  await expect.poll(async () => (await store.usage(OWNER)).bytes).toBeGreaterThan(100_000);
  socket.destroy();
  await expect
    .poll(() =>
      isEmpty().then(
        () => true,
        () => false,
      ),
    )
    .toBe(true);
});

test('an upload that its caller aborts leaves nothing behind', async () => {
  const { podgate, store, isEmpty } = await startFiles();
  const leaving = new AbortController();
  const create = store.create;
  store.create = async (...args) => {
    leaving.abort(new Error('enough'));
    return create(...args);
  };
  const upload = podgate.files.upload(new Uint8Array(50 * MB), { filename: 'a', signal: leaving.signal });
  await expect(upload).rejects.toThrow('enough');
  await expect
    .poll(() =>
      isEmpty().then(
        () => true,
        () => false,
      ),
    )
    .toBe(true);
});

test('a download is read as fast as it is taken, and its file is let go of when its reader leaves', async () => {
  const { podgate, port } = await startFiles();
  const { file_id } = await podgate.files.upload(new Uint8Array(50 * MB), { filename: 'a' });
  const before = await descriptors();
  const memory = process.memoryUsage.rss();
  for (let round = 0; round < 10; round++) {
    const { body } = await podgate.files.download(file_id);
    const reader = body.getReader();
    await reader.read();
    await reader.cancel();
  }
  for (let round = 0; round < 20; round++) {
    const socket = connect(port, '127.0.0.1');
    socket.end(`GET /v1/files/${file_id} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await once(socket, 'connect');
    if (round % 2) await new Promise((resolve) => setImmediate(resolve));
    socket.destroy();
  }
  await expect.poll(descriptors).toBeLessThanOrEqual(before);
  expect(process.memoryUsage.rss() - memory).toBeLessThan(100 * MB);
});

test('HEAD holds no file open', async () => {
  const { podgate, port } = await startFiles();
  const { file_id } = await podgate.files.upload('abc', { filename: 'a' });
  const before = await descriptors();
  for (let round = 0; round < 10; round++) {
    const response = await fetch(`http://127.0.0.1:${port}/v1/files/${file_id}`, { method: 'HEAD' });
    expect(response.headers.get('content-length')).toBe('3');
  }
  await expect.poll(descriptors).toBeLessThanOrEqual(before + 1);
});
