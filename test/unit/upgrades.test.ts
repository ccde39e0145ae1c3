import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { WebSocket } from 'ws';
import type { Gateway } from '../../gateway/create-gateway.ts';
import { createTerminalUpgrades } from '../../gateway/node/terminal-upgrade.ts';
import { acceptUpgrades, MESSAGES_A_TURN } from '../../gateway/node/upgrades.ts';
import { AGENT_LINK_PATH, AGENT_SUBPROTOCOL } from '../../gateway/routes/agents.ts';
import { TERMINAL_SUBPROTOCOL } from '../../gateway/terminals/terminal-request.ts';
import type { TerminalSocketPort } from '../../gateway/terminals/terminal-socket.ts';
import { until } from '../fakes/until.ts';

const MESSAGE_BYTES = 64;
/** With a WebSocket frame's head and mask around it. */
const FRAME_BYTES = MESSAGE_BYTES + 6;
/** What Node reads a socket with. */
const READ_BYTES = 65_536;
const MESSAGES = 20_000;

/** A WebSocket to a gateway whose links and terminals do nothing but take messages. */
async function connect(path: string, protocol: string, message: () => void): Promise<WebSocket> {
  const handlers = { message, closed() {}, close() {}, joined: true };
  const gateway = {
    acceptsLinks: () => true,
    acceptLink: () => handlers,
    openTerminal: async () => ({ take: () => handlers, drop() {} }),
  } as unknown as Gateway;
  const server = createServer();
  const upgrades = acceptUpgrades(server, Promise.resolve(gateway));
  onTestFinished(() => upgrades.close());
  onTestFinished(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  return new WebSocket(`ws://127.0.0.1:${port}${path}`, [protocol]);
}

/** Sends all messages at once to a gateway that does nothing but count how many it hears in each turn of the event loop. */
async function heardByTurn(path: string, protocol: string): Promise<number[]> {
  const turns: number[] = [0];
  let heard = 0;
  const webSocket = await connect(path, protocol, () => {
    heard += 1;
    turns.push((turns.pop() ?? 0) + 1);
  });
  await once(webSocket, 'open');
  let turn = setImmediate(function next() {
    turns.push(0);
    turn = setImmediate(next);
  });
  onTestFinished(() => clearImmediate(turn));
  for (let sent = 0; sent < MESSAGES; sent += 1) webSocket.send(new Uint8Array(MESSAGE_BYTES));
  await until(() => heard === MESSAGES);
  return turns;
}

describe('a terminal', () => {
  const PING_MS = 20;

  /** One whose program has not taken what was typed, or has. */
  async function join(isHeld: boolean) {
    const port = Promise.withResolvers<TerminalSocketPort>();
    const handlers = { message() {}, closed() {} };
    const take = (given: TerminalSocketPort) => {
      if (isHeld) given.hold();
      port.resolve(given);
      return handlers;
    };
    const gateway = { openTerminal: async () => ({ take, drop() {} }) } as unknown as Gateway;
    const server = createServer();
    const terminals = createTerminalUpgrades({ pingMs: PING_MS });
    onTestFinished(() => terminals.close());
    onTestFinished(() => void server.close());
    server.on('upgrade', (request, socket, head) => terminals.open(gateway, request, socket, head));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port: at } = server.address() as AddressInfo;
    const webSocket = new WebSocket(`ws://127.0.0.1:${at}/`, [TERMINAL_SUBPROTOCOL], { autoPong: isHeld });
    let pings = 0;
    webSocket.on('ping', () => {
      pings += 1;
    });
    return { webSocket, port: await port.promise, pinged: (count: number) => until(() => pings >= count) };
  }

  test('that takes no input for longer than a pong may take lives on', async () => {
    const { webSocket, port, pinged } = await join(true);
    await pinged(3);
    port.go();
    await pinged(5);
    expect(webSocket.readyState).toBe(webSocket.OPEN);
  });

  test('whose peer answers no ping is let go', async () => {
    const { webSocket } = await join(false);
    const [code] = await once(webSocket, 'close');
    expect(code).toBe(1006);
  });
});

describe('a peer that sends without end', () => {
  test('is heard, over the link of an agent, as far as it was read and no further before the others have their turn', async () => {
    const turns = await heardByTurn(AGENT_LINK_PATH, AGENT_SUBPROTOCOL);
    // A socket that pauses has read once more.
    expect(Math.max(...turns)).toBeLessThanOrEqual(MESSAGES_A_TURN + (2 * READ_BYTES) / FRAME_BYTES);
  });

  test('is heard, of a terminal, once a turn', async () => {
    const turns = await heardByTurn('/v1/sessions/s/terminals/main', TERMINAL_SUBPROTOCOL);
    // What comes before a turn is counted and behind the next is heard in one count.
    expect(Math.max(...turns)).toBeLessThanOrEqual(2);
  });
});

test('an agent that dials is told the time', async () => {
  const webSocket = await connect(AGENT_LINK_PATH, AGENT_SUBPROTOCOL, () => {});
  const [{ headers }] = (await once(webSocket, 'upgrade')) as [IncomingMessage];
  expect(Math.abs(Date.parse(headers.date ?? '') - Date.now())).toBeLessThan(10_000);
});
