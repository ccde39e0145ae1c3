import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import {
  MAX_MESSAGE_FRAGMENTS,
  MAX_TERMINAL_CONTROL_BYTES,
  MAX_TERMINAL_INPUT_BYTES,
  MAX_TERMINALS,
} from '../../shared/limits.ts';
import { eventually } from '../fakes/eventually.ts';
import { lookAt } from '../fakes/looked-at-terminal.ts';
import { at, closed, leave, opened, PROTOCOL, statusOf, upgrade } from '../fakes/raw-terminal.ts';
import { describeStack } from './suite.ts';

type Rest = Parameters<typeof upgrade> extends [unknown, ...infer Arguments] ? Arguments : never;

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

    const statusAt = (...args: Rest) => statusOf(stack(), ...args);

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
        ['no key', 401, () => statusAt(at(session), [PROTOCOL], {}, null)],
        ['a key that is none', 401, () => statusAt(at(session), [PROTOCOL], {}, 'x.y.z')],
        [
          'a key in the URL',
          401,
          () => statusAt(`${at(session)}?key=${stack().ownKey}`, [PROTOCOL], {}, null),
        ],
        [
          'two different keys',
          401,
          async () => statusAt(at(session), [PROTOCOL, `podgate.key.${await key()}`]),
        ],
        [
          'two different keys in one header',
          401,
          async () => {
            const both = [`Bearer ${stack().ownKey}`, `Bearer ${await key()}`];
            // As `node:http` takes a header that is sent twice, which the types of ws do not know.
            return statusAt(at(session), [PROTOCOL], {
              headers: { authorization: both as unknown as string },
            });
          },
        ],
        [
          'another scope',
          403,
          async () => statusAt(at(session), [PROTOCOL], {}, await key({ sub: 'own', scopes: ['execute'] })),
        ],
        ['another principal', 404, async () => statusAt(at(session), [PROTOCOL], {}, await key())],
        [
          'another user of the same key',
          404,
          () => statusAt(at(session), [PROTOCOL], { headers: { 'podgate-user': 'eve' } }),
        ],
        ['an id that is none', 404, () => statusAt('/v1/sessions/none/terminals/main')],
        ['a session that was ended', 404, () => statusAt(at(over))],
        ['another cluster', 404, () => statusAt(`/clusters/other${at(session)}`)],
        ['only one that there is', 404, () => statusAt(at(session, 'main?create=false'))],
        [
          'a page of a foreign origin',
          403,
          () => statusAt(at(session), [PROTOCOL], { origin: 'https://evil.example' }),
        ],
        [
          'more in a minute than its key may ask',
          429,
          async () => {
            const brief = await key({ sub: 'brief', limits: { requests_per_minute: 1 } });
            const ask = () => statusAt(at(session), [PROTOCOL], {}, brief);
            expect(await ask()).toBe(404);
            return ask();
          },
        ],
        ['no subprotocol', 422, () => statusAt(at(session), [])],
        ['another subprotocol', 422, () => statusAt(at(session), ['podgate.v1'])],
        ['a name that is none', 422, () => statusAt(at(session, 'a%20b'))],
        ['no rows', 422, () => statusAt(at(session, 'main?rows=0'))],
        ['more rows than there may be', 422, () => statusAt(at(session, 'main?rows=4097'))],
        ['rows that are no number', 422, () => statusAt(at(session, 'main?rows=1e3'))],
        ['an offset beyond all output', 422, () => statusAt(at(session, 'main?offset=99999999'))],
        ['a TERM with a line in it', 422, () => statusAt(at(session, 'main?term=a%0Ab'))],
      ];
      for (const [what, status, ask] of bodies) expect([what, await ask()]).toEqual([what, status]);
      await eventually(async () => (await stack().fetch(`/v1/sessions/${short.id}`)).status === 404);
      expect(await statusAt(at(short))).toBe(404);
      expect(await statusAt(at(session, 'main?rows=4096&columns=4096'))).toBe(101);
      expect(await statusAt(at(session), [PROTOCOL], { origin: ORIGIN })).toBe(101);
    });

    test('is refused with what every refusal has: the id of its request, and what to bring', async () => {
      const refusal = async (...args: Rest) => {
        const answer = await upgrade(stack(), ...args);
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
      const answer = await upgrade(
        stack(),
        at(session),
        [PROTOCOL, `podgate.key.${stack().ownKey}`],
        {},
        null,
      );
      expect(answer).toBeInstanceOf(WebSocket);
      expect((answer as WebSocket).protocol).toBe(PROTOCOL);
      (answer as WebSocket).terminate();
      expect(JSON.stringify(stack().log)).not.toContain(stack().ownKey);
    });

    test('closes for messages that break its rules, each bound at its limit and one past it', async () => {
      await using session = await begin();
      const verdict = async (...messages: (string | Uint8Array)[]) => {
        const socket = await opened(stack(), at(session));
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
        const socket = await opened(stack(), at(session));
        socket.send(bad);
        expect([bad.slice(0, 50), await closed(socket)]).toEqual([bad.slice(0, 50), 4422]);
      }
      const good = await opened(stack(), at(session));
      good.send(padded(MAX_TERMINAL_CONTROL_BYTES));
      good.send('{"type":"resize","rows":4096,"columns":1}');
      good.send(new Uint8Array(0));
      good.send(new Uint8Array(MAX_TERMINAL_INPUT_BYTES));
      good.send(new Uint8Array(MAX_TERMINAL_INPUT_BYTES + 1));
      expect(await closed(good)).toBe(4413);
      const torn = await opened(stack(), at(session));
      for (let fragment = 0; fragment <= MAX_MESSAGE_FRAGMENTS; fragment += 1)
        torn.send(new Uint8Array(1), { fin: false });
      expect(await closed(torn)).toBe(4413);
      // None of it ended the terminal.
      expect((await session.state()).terminals).toEqual(['main']);
    });

    test('MAX_TERMINALS are open in one session, and one more is refused', async () => {
      await using session = await begin();
      for (let index = 0; index < MAX_TERMINALS; index += 1)
        await leave(await lookAt(session, { name: `t${index}` }));
      await expect(session.terminal({ name: 'more' })).rejects.toMatchObject({ code: 'busy', status: 409 });
      const refused = await upgrade(stack(), at(session, 'more'));
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

    test('is refused with its reason where there is none to come back to', async () => {
      await using session = await begin();
      const none = session.terminal({ name: 'none', create: false });
      await expect(none).rejects.toMatchObject({ status: 404, message: expect.stringContaining("'none'") });
      const other = await stack().podgate.start('1');
      for (const resume of ['x', other])
        await expect(session.terminal({ resume })).rejects.toMatchObject({ code: 'not_found', status: 404 });
      expect((await session.state()).terminals).toEqual([]);
    });

    test('keeps its size where who comes back says none', async () => {
      await using session = await begin();
      await leave(await lookAt(session, { rows: 50, columns: 132 }));
      const plain = await lookAt(session);
      plain.type('stty size\n');
      await plain.shows('50 132\r\n');
      await leave(plain);
      const sized = await lookAt(session, { rows: 30 });
      sized.type('stty size\n');
      await sized.shows('30 80\r\n');
      await leave(sized);
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
  },
);
