import { describe, test } from 'vitest';
import { WebSocket } from 'ws';
import { Podgate } from '../../client/podgate.ts';
import { ORPHAN_MS, READER_STALL_MS, REPLAY_BYTES, TERMINAL_WINDOW_BYTES } from '../../shared/limits.ts';
import { lookAt } from '../fakes/looked-at-terminal.ts';
import { at, closed, leave, opened, PROTOCOL, receivedBy, statusOf, upgrade } from '../fakes/raw-terminal.ts';
import { until } from '../fakes/until.ts';
import { describeStack } from '../system/suite.ts';

const TEMPLATES = [
  {
    name: 'default',
    languages: ['python', 'bash'] as ('python' | 'bash')[],
    pool: { min: 1, max: 4 },
    resources: { cpu_seconds: 20 },
  },
];

describe('While time passes,', { concurrent: true }, () => {
  describeStack('a terminal of a session', { templates: TEMPLATES }, (stack) => {
    test(
      'tells who was away too long what is gone: after ORPHAN_MS nothing holds the program, and REPLAY_BYTES are kept',
      async ({ expect }) => {
        await using session = await stack().podgate.sessions.create();
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
        // Whoever came back is waited for as before.
        second.type('echo ag""ain; sleep 1; seq 3000000 3999999 | head -c 3000000; touch /tmp/done-again\n');
        await second.shows('again');
        await leave(second);
        expect(await isDone('sleep 3; test -e /tmp/done-again')).toBe(false);
        const third = await lookAt(session, { offset: second.terminal.offset });
        await until(() => third.terminal.offset > second.terminal.offset + 2_999_999);
        expect(third.seen.gaps).toEqual([]);
        await leave(third);
      },
      ORPHAN_MS + 60_000,
    );

    test(
      'a reader that acknowledges nothing holds itself alone, at TERMINAL_WINDOW_BYTES, and is let go',
      async ({ expect }) => {
        await using session = await stack().podgate.sessions.create();
        const stalled = await opened(stack(), at(session, 'flood'));
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
      const raw = await upgrade(stack(), at(session, 'raw'), [PROTOCOL], {}, key);
      if (!(raw instanceof WebSocket)) throw new Error(raw.body);
      const over = closed(raw);
      await stack().revoke(key);
      expect(await over).toBe(4401);
      await shell.ended;
      expect(shell.seen.error).toBe('unauthorized');
      expect(await statusOf(stack(), at(session, 'raw'), [PROTOCOL], {}, key)).toBe(401);
      const again = new Podgate({ baseUrl: stack().url, key: await stack().key(own) });
      const next = await lookAt(again.sessions.open(session.id));
      next.type('echo $x$x\n');
      await next.shows('keptkept');
      await leave(next);
      await again.sessions.open(session.id).end();
    }, 60_000);

    test('whose key is revoked while it holds output back is closed as well, however little it acknowledges', async ({
      expect,
    }) => {
      const own = { sub: 'revoked-while-held' };
      const key = await stack().key(own);
      const session = await new Podgate({ baseUrl: stack().url, key }).sessions.create();
      const raw = await upgrade(stack(), at(session, 'raw'), [PROTOCOL], {}, key);
      if (!(raw instanceof WebSocket)) throw new Error(raw.body);
      const over = closed(raw);
      raw.send(Buffer.from('yes\n'));
      await until(() => receivedBy(raw) >= TERMINAL_WINDOW_BYTES);
      await stack().revoke(key);
      let offset = 0;
      const trickle = setInterval(() => raw.send(JSON.stringify({ type: 'ack', offset: ++offset })), 1_000);
      try {
        expect(await over).toBe(4401);
      } finally {
        clearInterval(trickle);
      }
      const again = new Podgate({ baseUrl: stack().url, key: await stack().key(own) });
      await again.sessions.open(session.id).end();
    }, 60_000);

    test('ends with its session, and what runs in it', async ({ expect }) => {
      const session = await stack().podgate.sessions.create({ ttl_seconds: 3 });
      const shell = await lookAt(session);
      shell.type('trap "" HUP TERM INT; (setsid sleep 1000 &); sleep 1000\n');
      await shell.ended;
      expect(shell.seen.error).toBe('sandbox_lost');
      await expect(session.terminal()).rejects.toMatchObject({ status: 404 });
    });
  });
});
