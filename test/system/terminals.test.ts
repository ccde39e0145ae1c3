import { once } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http';
import { describe, expect, test } from 'vitest';
import { type ClientOptions, WebSocket } from 'ws';
import { Podgate } from '../../client/podgate.ts';
import type { Session } from '../../client/sessions.ts';
import {
  MAX_TERMINAL_CONTROL_BYTES,
  MAX_TERMINAL_INPUT_BYTES,
  MAX_TERMINALS,
  ORPHAN_MS,
  READER_STALL_MS,
  REPLAY_BYTES,
  TERMINAL_WINDOW_BYTES,
} from '../../shared/limits.ts';
import { eventually } from '../fakes/eventually.ts';
import { type LookedAt, lookAt } from '../fakes/looked-at-terminal.ts';
import { until } from '../fakes/until.ts';
import { describeStack } from './suite.ts';

const PROTOCOL = 'podgate.terminal.v1';
const ORIGIN = 'https://console.example';
const TEMPLATES = [
  {
    name: 'default',
    languages: ['python', 'bash'] as ('python' | 'bash')[],
    pool: { min: 1, max: 5 },
    resources: { cpu_seconds: 20 },
  },
];

describeStack(
  'a terminal of a session',
  { templates: TEMPLATES, variables: { PODGATE_TERMINAL_ORIGINS: ORIGIN } },
  (stack) => {
    const begin = (request: object = {}) => stack().podgate.sessions.create(request);

    const received = new WeakMap<WebSocket, number>();
    const receivedBy = (socket: WebSocket) => received.get(socket) ?? 0;

    /** An upgrade as no client of ours would send it: the status that refuses it, or the open socket. */
    async function upgrade(
      path: string,
      protocols: string[] = [PROTOCOL],
      options: ClientOptions = {},
      key: string | null = stack().ownKey,
    ): Promise<{ status: number; body: string; headers: IncomingHttpHeaders } | WebSocket> {
      const headers = { ...(key !== null && { authorization: `Bearer ${key}` }), ...options.headers };
      const socket = new WebSocket(stack().url.replace('http', 'ws') + path, protocols, {
        ...options,
        headers,
      });
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
    const statusOf = async (...args: Parameters<typeof upgrade>) => {
      const answer = await upgrade(...args);
      if (!(answer instanceof WebSocket)) return answer.status;
      answer.terminate();
      return 101;
    };
    const opened = async (path: string): Promise<WebSocket> => {
      const answer = await upgrade(path);
      if (!(answer instanceof WebSocket)) throw new Error(`${answer.status} ${answer.body}`);
      return answer;
    };
    const closed = async (socket: WebSocket): Promise<number> => (await once(socket, 'close'))[0] as number;
    const at = ({ id }: Session, rest = 'main') => `/v1/sessions/${id}/terminals/${rest}`;
    const leave = async (shell: LookedAt) => {
      shell.terminal.close();
      await shell.ended;
    };

    test('shows a shell, takes what is typed and its size, and ends with the shell’s code', async () => {
      await using session = await begin();
      const shell = await lookAt(session, { name: 'first', rows: 30, columns: 100 });
      expect(shell.terminal.state).toMatchObject({ terminal: 'first', created: true, input_offset: 0 });
      shell.type('stty size; tty\n');
      await shell.shows(/30 100\r\n\/dev\/pts\/\d+\r\n/);
      expect((await session.state()).terminals).toEqual(['first']);
      shell.terminal.resize(50, 132);
      shell.type('stty size; exit 7\n');
      expect(await shell.ended).toEqual({ type: 'exit', outcome: 'exited', exit_code: 7, signal: null });
      expect(shell.seen.text).toContain('50 132\r\n');
      expect((await session.state()).terminals).toEqual([]);
    });

    test('is refused to whoever may not have it, and an open door is no door', async () => {
      await using session = await begin();
      await using over = await begin();
      await over.end();
      await using short = await begin({ ttl_seconds: 1 });
      const { key } = stack();
      const bodies: [string, number, () => Promise<number>][] = [
        ['no key', 401, () => statusOf(at(session), [PROTOCOL], {}, null)],
        ['a key that is none', 401, () => statusOf(at(session), [PROTOCOL], {}, 'x.y.z')],
        [
          'a key in the URL',
          401,
          () => statusOf(`${at(session)}?key=${stack().ownKey}`, [PROTOCOL], {}, null),
        ],
        [
          'two different keys',
          401,
          async () => statusOf(at(session), [PROTOCOL, `podgate.key.${await key()}`]),
        ],
        [
          'two different keys in one header',
          401,
          async () => {
            const both = [`Bearer ${stack().ownKey}`, `Bearer ${await key()}`];
            // As `node:http` takes a header that is sent twice, which the types of ws do not know.
            return statusOf(at(session), [PROTOCOL], {
              headers: { authorization: both as unknown as string },
            });
          },
        ],
        [
          'another scope',
          403,
          async () => statusOf(at(session), [PROTOCOL], {}, await key({ sub: 'own', scopes: ['execute'] })),
        ],
        ['another principal', 404, async () => statusOf(at(session), [PROTOCOL], {}, await key())],
        [
          'another user of the same key',
          404,
          () => statusOf(at(session), [PROTOCOL], { headers: { 'podgate-user': 'eve' } }),
        ],
        ['an id that is none', 404, () => statusOf('/v1/sessions/none/terminals/main')],
        ['a session that was ended', 404, () => statusOf(at(over))],
        ['another cluster', 404, () => statusOf(`/clusters/other${at(session)}`)],
        ['only one that there is', 404, () => statusOf(at(session, 'main?create=false'))],
        [
          'a page of a foreign origin',
          403,
          () => statusOf(at(session), [PROTOCOL], { origin: 'https://evil.example' }),
        ],
        ['no subprotocol', 422, () => statusOf(at(session), [])],
        ['another subprotocol', 422, () => statusOf(at(session), ['podgate.v1'])],
        ['a name that is none', 422, () => statusOf(at(session, 'a%20b'))],
        ['no rows', 422, () => statusOf(at(session, 'main?rows=0'))],
        ['more rows than there may be', 422, () => statusOf(at(session, 'main?rows=4097'))],
        ['rows that are no number', 422, () => statusOf(at(session, 'main?rows=1e3'))],
        ['an offset beyond all output', 422, () => statusOf(at(session, 'main?offset=99999999'))],
        ['a TERM with a line in it', 422, () => statusOf(at(session, 'main?term=a%0Ab'))],
      ];
      for (const [what, status, ask] of bodies) expect([what, await ask()]).toEqual([what, status]);
      await eventually(async () => (await stack().fetch(`/v1/sessions/${short.id}`)).status === 404);
      expect(await statusOf(at(short))).toBe(404);
      expect(await statusOf(at(session, 'main?rows=4096&columns=4096'))).toBe(101);
      expect(await statusOf(at(session), [PROTOCOL], { origin: ORIGIN })).toBe(101);
    });

    test('is refused with what every refusal has: the id of its request, and what to bring', async () => {
      const refusal = async (...args: Parameters<typeof upgrade>) => {
        const answer = await upgrade(...args);
        if (answer instanceof WebSocket) throw new Error('it was opened');
        const { request_id } = JSON.parse(answer.body) as { request_id: string };
        expect(answer.headers).toMatchObject({
          'content-type': 'application/problem+json',
          'cache-control': 'no-store',
          'x-request-id': request_id,
        });
        return { id: request_id, headers: answer.headers };
      };
      const path = '/v1/sessions/none/terminals/main';
      const unknown = await refusal(path, [PROTOCOL], {}, null);
      expect(unknown.headers['www-authenticate']).toBe('Bearer');
      expect(unknown.id).toMatch(/^[\w-]{20}$/);
      expect((await refusal(path, [PROTOCOL], { headers: { 'x-request-id': 'mine' } })).id).toBe('mine');
      expect((await refusal(path, [PROTOCOL], { headers: { 'x-request-id': 'not mine' } })).id).toMatch(
        /^[\w-]{20}$/,
      );
      expect((await refusal('/v1/agents/link/none')).id).toMatch(/^[\w-]{20}$/);
    });

    test('asks for an upgrade where none comes, once it is clear that there is such a session', async () => {
      await using session = await begin();
      const plain = await stack().fetch(at(session));
      expect(plain.status).toBe(426);
      expect(plain.headers.get('upgrade')).toBe('websocket');
      expect(await plain.json()).toMatchObject({ code: 'upgrade_required' });
      // A WebSocket is not told why it was refused: who asks without one is.
      for (const bad of ['rows=0', 'columns=4097', 'term=a/b', 'writer=']) {
        const refused = await stack().fetch(`${at(session)}?${bad}`);
        expect([refused.status, await refused.json()]).toMatchObject([422, { code: 'invalid_request' }]);
      }
      expect((await stack().fetch('/v1/sessions/none/terminals/main')).status).toBe(404);
      expect((await stack().fetch(at(session), { method: 'POST' })).status).toBe(405);
    });

    test('takes a key among the subprotocols, and does not say it back', async () => {
      await using session = await begin();
      const answer = await upgrade(at(session), [PROTOCOL, `podgate.key.${stack().ownKey}`], {}, null);
      expect(answer).toBeInstanceOf(WebSocket);
      expect((answer as WebSocket).protocol).toBe(PROTOCOL);
      (answer as WebSocket).terminate();
      expect(JSON.stringify(stack().log)).not.toContain(stack().ownKey);
    });

    test('closes for messages that break its rules, each bound at its limit and one past it', async () => {
      await using session = await begin();
      const verdict = async (...messages: (string | Uint8Array)[]) => {
        const socket = await opened(at(session));
        for (const message of messages) socket.send(message);
        socket.send('{"type":"ack","offset":-1}');
        return closed(socket);
      };
      const padded = (bytes: number) => '{"type":"ack","offset":0}'.padEnd(bytes, ' ');
      // The ack below zero that follows is what closes where all before it was good.
      expect(await verdict()).toBe(4422);
      for (const bad of [
        'x',
        '{}',
        '[]',
        'null',
        '{"type":"resize"}',
        '{"type":"resize","rows":0,"columns":1}',
        '{"type":"resize","rows":4097,"columns":1}',
        '{"type":"ack","offset":99999999}',
        padded(MAX_TERMINAL_CONTROL_BYTES + 1),
      ]) {
        const socket = await opened(at(session));
        socket.send(bad);
        expect([bad.slice(0, 50), await closed(socket)]).toEqual([bad.slice(0, 50), 4422]);
      }
      const good = await opened(at(session));
      good.send(padded(MAX_TERMINAL_CONTROL_BYTES));
      good.send('{"type":"resize","rows":4096,"columns":1}');
      good.send(new Uint8Array(0));
      good.send(new Uint8Array(MAX_TERMINAL_INPUT_BYTES));
      good.send(new Uint8Array(MAX_TERMINAL_INPUT_BYTES + 1));
      expect(await closed(good)).toBe(4413);
      // None of it ended the terminal.
      expect((await session.state()).terminals).toEqual(['main']);
    });

    test('MAX_TERMINALS are open in one session, and one more is refused', async () => {
      await using session = await begin();
      for (let index = 0; index < MAX_TERMINALS; index += 1)
        await leave(await lookAt(session, { name: `t${index}` }));
      await expect(session.terminal({ name: 'more' })).rejects.toMatchObject({ code: 'connection_lost' });
      const refused = await upgrade(at(session, 'more'));
      expect(refused).toMatchObject({ status: 409, body: expect.stringContaining('"code":"busy"') });
      await session.endTerminal('t0');
      await leave(await lookAt(session, { name: 'more' }));
      await expect(session.endTerminal('t0')).rejects.toMatchObject({ status: 404 });
    });

    test('goes on when nobody looks; who comes back has what was missed, and types each byte once', async () => {
      await using session = await begin();
      const first = await lookAt(session, { writer: 'me' });
      const typed = 'PS1=; stty -echo; sleep 0.5; for n in 1 2 3; do echo n$n; done; cat\n';
      first.type(typed);
      await first.shows('sleep 0.5');
      const { offset, state } = first.terminal;
      await leave(first);
      const second = await lookAt(session, { offset, resume: state.execution_id, writer: 'me' });
      expect(second.terminal.state).toMatchObject({ created: false, output_offset: offset });
      expect(second.terminal.state.input_offset).toBe(typed.length);
      await second.shows('n1\r\nn2\r\nn3\r\n');
      second.type('again\n');
      await second.shows('again\r\n');
      await session.endTerminal();
      expect(await second.ended).toMatchObject({ outcome: 'cancelled', exit_code: null });
      const last = await lookAt(session, { resume: state.execution_id, offset: second.terminal.offset });
      expect(await last.ended).toMatchObject({ type: 'exit', outcome: 'cancelled' });
    });

    test('who attaches takes the place of who looked before', async () => {
      await using session = await begin();
      const first = await lookAt(session);
      const second = await lookAt(session, { writer: 'second' });
      await first.ended;
      expect(first.seen.error).toBe('replaced');
      first.type('echo fir""st\n');
      second.type('echo sec""ond\n');
      await second.shows('second\r\n');
      expect(second.seen.text).not.toContain('first');
      await leave(second);
    });

    describe('while time passes,', { concurrent: true }, () => {
      test(
        'tells who was away too long what is gone: after ORPHAN_MS nothing holds the program, and REPLAY_BYTES are kept',
        async ({ expect }) => {
          await using session = await begin();
          const first = await lookAt(session);
          first.type(
            'PS1=; stty -echo -onlcr; clear; sleep 1; seq 1000000 1999999 | head -c 3000000; touch /tmp/done\n',
          );
          await first.shows('clear');
          const { offset } = first.terminal;
          await leave(first);
          // For ORPHAN_MS it is held at REPLAY_BYTES: who comes back so soon misses nothing.
          const isDone = async (cmd: string) => (await session.bash(cmd)).exit_code === 0;
          expect(await isDone('sleep 3; test -e /tmp/done')).toBe(false);
          while (!(await isDone('sleep 1; test -e /tmp/done')));
          const second = await lookAt(session, { offset });
          await until(() => second.terminal.offset > 3_000_000);
          const [[from, to]] = second.seen.gaps as [[number, number]];
          expect(from).toBe(offset);
          const end = second.terminal.offset;
          expect(end - to).toBeGreaterThan(REPLAY_BYTES - 65_536);
          expect(end - to).toBeLessThanOrEqual(REPLAY_BYTES);
          // What is kept is whole: the numbers follow each other.
          const numbers = second.seen.text.split('\n').slice(1, -2).map(Number);
          expect(numbers.length).toBeGreaterThan(100_000);
          numbers.forEach((number, index) => {
            if (index > 0 && number !== (numbers[index - 1] as number) + 1)
              throw new Error(`a hole at ${number}`);
          });
          await leave(second);
        },
        ORPHAN_MS + 60_000,
      );

      test(
        'a reader that acknowledges nothing holds itself alone, at TERMINAL_WINDOW_BYTES, and is let go',
        async ({ expect }) => {
          await using session = await begin();
          const stalled = await opened(at(session, 'flood'));
          const over = closed(stalled);
          stalled.send(Buffer.from('yes\n'));
          await until(() => receivedBy(stalled) >= TERMINAL_WINDOW_BYTES);
          const other = await lookAt(session, { name: 'other' });
          other.type('echo al""ive\n');
          await other.shows('alive');
          expect(await over).toBe(4502);
          expect(receivedBy(stalled)).toBe(TERMINAL_WINDOW_BYTES);
          await leave(other);
          const again = await lookAt(session, { name: 'flood' });
          again.type('\x03');
          again.type('echo st""ill\n');
          await again.shows('still');
          await leave(again);
        },
        READER_STALL_MS + 20_000,
      );

      test('whose key is revoked while somebody looks is closed to them, and goes on', async ({ expect }) => {
        const own = { sub: 'revoked-while-attached' };
        const key = await stack().key(own);
        const session = await new Podgate({ baseUrl: stack().url, key }).sessions.create();
        const shell = await lookAt(session);
        shell.type('x=kept\n');
        const raw = await upgrade(at(session, 'raw'), [PROTOCOL], {}, key);
        if (!(raw instanceof WebSocket)) throw new Error(raw.body);
        const over = closed(raw);
        await stack().revoke(key);
        expect(await over).toBe(4401);
        await shell.ended;
        expect(shell.seen.error).toBe('unauthorized');
        expect(await statusOf(at(session, 'raw'), [PROTOCOL], {}, key)).toBe(401);
        const again = new Podgate({ baseUrl: stack().url, key: await stack().key(own) });
        const next = await lookAt(again.sessions.open(session.id));
        next.type('echo $x$x\n');
        await next.shows('keptkept');
        await leave(next);
        await again.sessions.open(session.id).end();
      }, 60_000);

      test('ends with its session, and what runs in it', async ({ expect }) => {
        const session = await begin({ ttl_seconds: 3 });
        const shell = await lookAt(session);
        shell.type('trap "" HUP TERM INT; (setsid sleep 1000 &); sleep 1000\n');
        await shell.ended;
        expect(shell.seen.error).toBe('sandbox_lost');
        await expect(session.terminal()).rejects.toMatchObject({ status: 404 });
      });
    });
  },
);
