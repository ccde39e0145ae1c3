import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { beforeEach, describe, expect, test } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { gatewayProxyOf, passedOverProxies } from '../../agent/gateway-proxy.ts';
import { dial, SUBPROTOCOL } from '../../agent/link/dial.ts';
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

function dialed(given: { ca?: string; noProxy?: string; proxyUrl?: string } = {}): WebSocket {
  const { ca = authority.cert, noProxy = '', proxyUrl = proxy.url } = given;
  const url = new URL(`https://${BEHIND}/below`);
  return dial({
    url,
    ca,
    proxy: { url: proxyUrl, noProxy },
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

  test('is left aside for hosts that NO_PROXY names', async () => {
    await expect(failed(dialed({ noProxy: 'other.test,localhost' }))).resolves.toContain('ECONNREFUSED');
    expect(proxy.asked).toEqual([]);
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

  test('holds for an https gateway on another machine, small names first', () => {
    const HTTPS_PROXY = 'http://proxy.test:3128';
    expect(gatewayProxyOf(gateway, { HTTPS_PROXY })).toEqual({ url: HTTPS_PROXY, noProxy: '' });
    const both = { HTTPS_PROXY, https_proxy: 'small.test:1', NO_PROXY: 'a', no_proxy: 'b' };
    expect(gatewayProxyOf(new URL('wss://gateway.test'), both)).toEqual({
      url: 'http://small.test:1',
      noProxy: 'b',
    });
    for (const url of ['http://gateway.test', 'https://127.0.0.1:8000', 'https://localhost'])
      expect(gatewayProxyOf(new URL(url), both)).toBeUndefined();
    expect(gatewayProxyOf(gateway, { HTTP_PROXY: 'http://proxy', HTTPS_PROXY: '' })).toBeUndefined();
  });

  test.each(['socks5://proxy:1', 'http://', 'pro xy'])('stops the boot where it is %s', (HTTPS_PROXY) => {
    expect(() => gatewayProxyOf(gateway, { HTTPS_PROXY })).toThrow('HTTPS_PROXY is no http or https URL');
  });

  test('leaves over what nothing here heeds', () => {
    const set = {
      HTTPS_PROXY: 'http://proxy',
      ALL_PROXY: 'http://proxy',
      http_proxy: 'http://proxy',
      NO_PROXY: 'x',
    };
    expect(passedOverProxies(set, gatewayProxyOf(gateway, set))).toEqual(['ALL_PROXY', 'http_proxy']);
    expect(passedOverProxies(set, undefined)).toEqual(['HTTPS_PROXY', 'ALL_PROXY', 'http_proxy']);
  });
});
