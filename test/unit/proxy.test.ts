import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { beforeEach, describe, expect, test } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { dial, SUBPROTOCOL } from '../../agent/link/dial.ts';
import { gatewayProxy, passedOverProxies, readProxies } from '../../agent/proxy.ts';
import { type ConnectProxy, startConnectProxy } from '../fakes/connect-proxy.ts';
import { createAuthority } from '../fakes/kube-api/certificates.ts';
import { until } from '../fakes/until.ts';

const authority = createAuthority();
/** Nothing listens there: only the proxy knows the way. */
const BEHIND = 'localhost:1';
const PROXY_TIMEOUT_MS = 300;
let proxy: ConnectProxy;

beforeEach(async () => {
  const server = createServer(authority.issue({ name: 'gateway' }));
  const sockets = new WebSocketServer({ server });
  // Longer than the proxy may take to make a way.
  sockets.on('connection', (socket) => void setTimeout(() => socket.send('late'), 2 * PROXY_TIMEOUT_MS));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy = await startConnectProxy((server.address() as AddressInfo).port);
  return async () => {
    for (const socket of sockets.clients) socket.terminate();
    await proxy[Symbol.asyncDispose]();
    server.close();
  };
});

function dialed(given: { ca?: string; proxyUrl?: string } = {}): WebSocket {
  const { ca = authority.cert, proxyUrl = proxy.url } = given;
  const url = new URL(`https://${BEHIND}/below`);
  return dial({
    url,
    ca,
    proxy: proxyUrl,
    proxyTimeoutMs: PROXY_TIMEOUT_MS,
    software: 'podgate/test',
  });
}

const failed = async (socket: WebSocket): Promise<string> => {
  const [error] = await once(socket, 'error');
  return error.message;
};

describe('the proxy before a gateway', () => {
  test('is gone through by TLS that the gateway itself ends', async () => {
    const socket = dialed();
    await once(socket, 'open');
    expect([socket.protocol, proxy.asked]).toEqual([SUBPROTOCOL, [BEHIND]]);
    await expect(once(socket, 'message')).resolves.toEqual([Buffer.from('late'), false]);
    socket.terminate();
    await until(() => proxy.connections === 0);
    const stranger = createAuthority('stranger').cert;
    await expect(failed(dialed({ ca: stranger }))).resolves.toMatch(/certificate|signature/);
  });

  test('that says nothing keeps no socket of a dial that was given up', async () => {
    proxy.silent = true;
    const socket = dialed();
    const error = failed(socket);
    await until(() => proxy.asked.length === 1);
    socket.terminate();
    await expect(error).resolves.toContain('closed before');
    await until(() => proxy.connections === 0);
  });

  test('is named in an error without its password', async () => {
    const { port } = new URL(proxy.url);
    await proxy[Symbol.asyncDispose]();
    proxy = await startConnectProxy(1);
    const refused = await failed(dialed({ proxyUrl: `http://me:secret@127.0.0.1:${port}` }));
    expect(refused).toContain('ECONNREFUSED');
    expect(refused).not.toContain('secret');
  });
});

describe('what the environment says of it', () => {
  const gateway = new URL('https://gateway.test');

  test('holds for an https server on another machine, small names first', () => {
    const HTTPS_PROXY = 'http://proxy.test:3128';
    expect(readProxies({ HTTPS_PROXY })(gateway)).toBe(HTTPS_PROXY);
    const both = readProxies({
      HTTPS_PROXY,
      https_proxy: 'small.test:1',
      NO_PROXY: 'gateway.test',
      no_proxy: 'b',
    });
    expect(both(new URL('wss://gateway.test'))).toBe('http://small.test:1');
    for (const url of ['http://gateway.test', 'https://127.0.0.1:8000', 'https://localhost'])
      expect(both(new URL(url))).toBeUndefined();
    expect(readProxies({ HTTP_PROXY: 'http://proxy', HTTPS_PROXY: '' })(gateway)).toBeUndefined();
  });

  test.each([
    ['gateway.test', 'https://gateway.test', true],
    ['other.test, Gateway.Test', 'https://gateway.test', true],
    ['other.test gateway.test', 'https://gateway.test', true],
    ['test', 'https://gateway.test', true],
    ['.test', 'https://gateway.test', true],
    ['*.gateway.test', 'https://gateway.test', true],
    ['way.test', 'https://gateway.test', false],
    ['gateway.test:443', 'https://gateway.test', true],
    ['gateway.test:6443', 'https://gateway.test', false],
    ['gateway.test:6443', 'https://gateway.test:6443', true],
    ['*', 'https://gateway.test', true],
    [', .', 'https://gateway.test', false],
    ['10.0.0.0/8', 'https://10.1.2.3:6443', true],
    ['10.0.0.0/8', 'https://11.1.2.3:6443', false],
    ['10.0.0.0/8', 'https://gateway.test', false],
    ['10.0.0.0/33,10.0.0.0/,10.0.0.0/x', 'https://10.0.0.0', false],
    ['10.1.2.3:6443', 'https://10.1.2.3:6443', true],
    ['0.1.2.3', 'https://10.0.1.2.3.test', false],
    ['2.3', 'https://10.1.2.3', false],
    ['fd00::/8', 'https://[fd00::1]:6443', true],
    ['fd00::1', 'https://[fd00::1]', true],
    ['[fd00::1]:6443', 'https://[fd00::1]:6443', true],
    ['fd00::2', 'https://[fd00::1]', false],
  ])('NO_PROXY=%s leaves it aside for %s: %s', (NO_PROXY, server, isLeftAside) => {
    const proxyTo = readProxies({ HTTPS_PROXY: 'http://proxy.test', NO_PROXY });
    expect(proxyTo(new URL(server)) === undefined).toBe(isLeftAside);
  });

  test.each(['socks5://proxy:1', 'http://', 'pro xy'])(
    'stops the boot where a gateway is behind it and it is %s',
    (HTTPS_PROXY) => {
      expect(() => gatewayProxy(gateway, readProxies({ HTTPS_PROXY }))).toThrow(
        'HTTPS_PROXY is no http or https URL',
      );
      expect(gatewayProxy(gateway, readProxies({ HTTPS_PROXY, NO_PROXY: 'test' }))).toBeUndefined();
    },
  );

  test('leaves over what nothing here heeds', () => {
    const set = {
      HTTPS_PROXY: 'http://proxy',
      ALL_PROXY: 'http://proxy',
      http_proxy: 'http://proxy',
      NO_PROXY: 'x',
    };
    expect(passedOverProxies(set, true)).toEqual(['ALL_PROXY', 'http_proxy']);
    expect(passedOverProxies(set, false)).toEqual(['HTTPS_PROXY', 'ALL_PROXY', 'http_proxy']);
  });
});
