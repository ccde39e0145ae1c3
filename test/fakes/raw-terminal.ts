import { once } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http';
import { type ClientOptions, WebSocket } from 'ws';
import type { Session } from '../../client/sessions.ts';
import type { LookedAt } from './looked-at-terminal.ts';
import type { Stack } from './stack.ts';

export const PROTOCOL = 'podgate.terminal.v1';

/** How many bytes of output each socket was sent. */
const received = new WeakMap<WebSocket, number>();
export const receivedBy = (socket: WebSocket): number => received.get(socket) ?? 0;

/** The path of a session's terminal. */
export const at = ({ id }: Session, rest = 'main'): string => `/v1/sessions/${id}/terminals/${rest}`;

export const closed = async (socket: WebSocket): Promise<number> =>
  (await once(socket, 'close'))[0] as number;

export async function leave(shell: LookedAt): Promise<void> {
  shell.terminal.close();
  await shell.ended;
}

export type Refusal = { status: number; body: string; headers: IncomingHttpHeaders };

/** An upgrade as no client of ours would send it: the status that refuses it, or the open socket. */
export async function upgrade(
  { url, ownKey }: Pick<Stack, 'url' | 'ownKey'>,
  path: string,
  protocols: string[] = [PROTOCOL],
  options: ClientOptions = {},
  key: string | null = ownKey,
): Promise<Refusal | WebSocket> {
  const headers = { ...(key !== null && { authorization: `Bearer ${key}` }), ...options.headers };
  const socket = new WebSocket(url.replace('http', 'ws') + path, protocols, { ...options, headers });
  socket.on('error', () => {});
  // From the first message on: the first may come with the upgrade.
  socket.on('message', (data: Buffer, isBinary) => {
    if (isBinary) received.set(socket, receivedBy(socket) + data.byteLength);
  });
  return new Promise((resolve) => {
    socket.once('open', () => resolve(socket));
    socket.once('unexpected-response', (_request, response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, body, headers: response.headers }),
      );
    });
  });
}

/** 101 where it was opened. */
export async function statusOf(...args: Parameters<typeof upgrade>): Promise<number> {
  const answer = await upgrade(...args);
  if (!(answer instanceof WebSocket)) return answer.status;
  answer.terminate();
  return 101;
}

export async function opened(...args: Parameters<typeof upgrade>): Promise<WebSocket> {
  const answer = await upgrade(...args);
  if (!(answer instanceof WebSocket)) throw new Error(`${answer.status} ${answer.body}`);
  return answer;
}
