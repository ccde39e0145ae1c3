import { getEventListeners, once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { Podgate } from '../../client/podgate.ts';

const ATTACHED = {
  type: 'attached',
  terminal: 'main',
  created: true,
  execution_id: 'x',
  output_offset: 0,
  input_offset: 0,
};

/** A terminal of a gateway that says these messages, and nothing else. */
async function openAt(messages: readonly string[], signal?: AbortSignal) {
  const server = new WebSocketServer({
    port: 0,
    host: '127.0.0.1',
    handleProtocols: () => 'podgate.terminal.v1',
  });
  onTestFinished(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  server.on('connection', (socket) => {
    for (const message of messages) socket.send(message);
  });
  await once(server, 'listening');
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { server, opening: new Podgate({ baseUrl, key: 'k' }).sessions.open('s').terminal({}, { signal }) };
}

test.each(['no JSON', 'null', '7'])('a terminal that is told %s is at an end, with a code', async (text) => {
  await expect((await openAt([text])).opening).rejects.toMatchObject({ code: 'malformed_answer' });
  const terminal = await (await openAt([JSON.stringify(ATTACHED), text])).opening;
  await expect(terminal.events().next()).rejects.toMatchObject({ code: 'malformed_answer' });
});

test('a terminal tells nothing of messages that it does not know', async () => {
  const exit = { type: 'exit', outcome: 'exited', exit_code: 0, signal: null };
  const messages = [ATTACHED, { type: 'news' }, exit].map((message) => JSON.stringify(message));
  const terminal = await (await openAt(messages)).opening;
  expect((await terminal.events().next()).value).toEqual(exit);
});

test('a terminal is asked for with key and user among the subprotocols, also with a key from the URL', async () => {
  const { server, opening: other } = await openAt([]);
  other.catch(() => {});
  await once(server, 'connection');
  const { port } = server.address() as AddressInfo;
  for (const [userInfo, key] of [
    ['', 'J.W.T'],
    ['key:J.W.T@', undefined],
  ] as const) {
    const podgate = new Podgate({ baseUrl: `http://${userInfo}127.0.0.1:${port}`, key, user: 'u>1?' });
    const connected = once(server, 'connection');
    const opening = podgate.sessions.open('s').terminal({ name: 'a', offset: 7 });
    opening.catch(() => {});
    const [, { headers, url }] = await connected;
    expect(headers['sec-websocket-protocol']?.split(/, ?/)).toEqual([
      'podgate.terminal.v1',
      'podgate.key.J.W.T',
      'podgate.user.dT4xPw',
    ]);
    expect(url).toBe('/v1/sessions/s/terminals/a?offset=7');
  }
});

test('a terminal acknowledges what was taken, in steps, and sends what is typed in pieces', async () => {
  const { server, opening } = await openAt([JSON.stringify({ ...ATTACHED, output_offset: 100 })]);
  const terminal = await opening;
  const [socket] = server.clients as Set<WebSocket>;
  const heard: (string | number)[] = [];
  socket?.on('message', (data: Buffer, isBinary) => heard.push(isBinary ? data.byteLength : data.toString()));
  expect(terminal.offset).toBe(100);
  const events = terminal.events();
  for (const bytes of [32_767, 1, 1]) socket?.send(Buffer.alloc(bytes));
  socket?.send(JSON.stringify({ type: 'gap', from: 32_869, to: 40_000 }));
  socket?.send(Buffer.alloc(32_768));
  for (let taken = 0; taken < 5; taken += 1) await events.next();
  const last = events.next();
  terminal.write(new Uint8Array(32_769));
  terminal.resize(5, 6);
  await vi.waitFor(() => expect(heard).toContain('{"type":"resize","rows":5,"columns":6}'));
  expect(heard).toEqual([
    '{"type":"ack","offset":32868}',
    '{"type":"ack","offset":72768}',
    32_768,
    1,
    '{"type":"resize","rows":5,"columns":6}',
  ]);
  expect(terminal.offset).toBe(72_768);
  terminal.close();
  await expect(last).rejects.toMatchObject({ code: 'connection_lost' });
});

test('a signal ends a terminal, and hears of none that is closed', async () => {
  const ending = new AbortController();
  const { server, opening } = await openAt([JSON.stringify(ATTACHED)], ending.signal);
  const terminal = await opening;
  for (const socket of server.clients) socket.terminate();
  await expect(terminal.events().next()).rejects.toMatchObject({ code: 'connection_lost' });
  expect(getEventListeners(ending.signal, 'abort')).toHaveLength(0);
  const other = await openAt([JSON.stringify(ATTACHED)], ending.signal);
  await other.opening;
  const [socket] = other.server.clients;
  const closed = once(socket as NonNullable<typeof socket>, 'close');
  ending.abort();
  await closed;
});

/** A gateway that says so much of a terminal, then takes nothing more: no end of it is answered. */
async function openAtSilent(messages: readonly string[], signal?: AbortSignal) {
  const { server, opening } = await openAt(messages, signal);
  server.on('connection', (socket) => socket.pause());
  opening.catch(() => {});
  await once(server, 'connection');
  return { opening };
}

test('a terminal whose WebSocket alone is refused says so, with what may be why', async () => {
  const server = createServer((_request, response) => {
    response.writeHead(426, { 'Content-Type': 'application/problem+json' });
    response.end(JSON.stringify({ code: 'upgrade_required', detail: 'Open a terminal as a WebSocket.' }));
  });
  server.on('upgrade', (_request, socket) => socket.end('HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n'));
  server.listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await expect(new Podgate({ baseUrl, key: 'k' }).sessions.open('s').terminal()).rejects.toMatchObject({
    code: 'connection_lost',
    message: expect.stringMatching(
      /^The terminal's WebSocket could not be opened, .* the sandbox may have no terminals/,
    ),
  });
});

test('a terminal whose gateway says nothing is opened no longer than its signal lets it, nor than 30 s', async () => {
  const ending = new AbortController();
  const { opening } = await openAtSilent([], ending.signal);
  ending.abort(new Error('enough'));
  await expect(opening).rejects.toThrow('enough');
  vi.useFakeTimers({ toFake: ['setTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const { opening: other } = await openAtSilent([]);
  vi.advanceTimersByTime(29_999);
  const rejected = expect(other).rejects.toMatchObject({
    code: 'connection_lost',
    message: 'No terminal within 30000 ms',
  });
  vi.advanceTimersByTime(1);
  await rejected;
});

test('whoever leaves a terminal waits for no answer to that', async () => {
  const ending = new AbortController();
  const terminal = await (await openAtSilent([JSON.stringify(ATTACHED)], ending.signal)).opening;
  const next = terminal.events().next();
  ending.abort(new Error('enough'));
  await expect(next).rejects.toThrow('enough');
  const other = await (await openAtSilent([JSON.stringify(ATTACHED)])).opening;
  const last = other.events().next();
  other.close();
  await expect(last).rejects.toMatchObject({ code: 'connection_lost' });
});
