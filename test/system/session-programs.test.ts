import { expect, test } from 'vitest';
import type { Program } from '../../client/program.ts';
import type { BashEnd } from '../../client/session-types.ts';
import type { Session } from '../../client/sessions.ts';
import { codeOf } from '../fakes/code-of.ts';
import { pythonTemplates } from './python-values.ts';
import { describeStack } from './suite.ts';

const TEMPLATES = pythonTemplates({ memory_mb: 256, cpu_seconds: 60, timeout_ms: 60_000 });
const MIB = 1_048_576;

/** All that a program says, and its end. */
async function follow<End extends object>(program: Program<End>) {
  let stdout = '';
  for await (const event of program) {
    if (event.type === 'result') return { stdout, end: event };
    if (event.stream === 'stdout') stdout += event.data;
  }
  throw new Error('it did not end');
}

describeStack('a program of a session, while it runs,', { templates: TEMPLATES }, (stack) => {
  const opened = async (use: (session: Session) => Promise<void>) => {
    await using session = await stack().podgate.sessions.create();
    await use(session);
  };
  /** Waits until `text` was said so often, in however many pieces. */
  const heard = async (events: AsyncIterator<unknown>, text: string, times = 1) => {
    for (let said = ''; said.split(text).length <= times; ) {
      const { value } = (await events.next()) as { value: { data?: string } };
      if (value?.data === undefined) throw new Error(`it ended after ${said}`);
      said += value.data;
    }
  };

  test('is fed by requests of its own, one after the other, and its input ends when it is said to', () =>
    opened(async (session) => {
      const cat = await session.spawn({ cmd: 'cat; echo over', stdin: 'first\n' });
      expect(await cat.write('second\n')).toEqual({ bytes: 7, open: true });
      expect(await cat.write(new Blob(['third\n']))).toEqual({ bytes: 6, open: true });
      expect(await cat.end()).toEqual({ bytes: 0, open: false });
      expect(await follow(cat)).toMatchObject({
        stdout: 'first\nsecond\nthird\nover\n',
        end: { exit_code: 0, outcome: 'exited' },
      });
    }));

  test('that was streamed is told again by its id, since nobody knows how much of it arrived', () =>
    opened(async (session) => {
      for (const begin of [() => session.spawn('echo said'), () => session.begin('print("said")')]) {
        const program = await begin();
        expect((await follow(program)).stdout).toBe('said\n');
        const events = await stack().fetch(`/v1/executions/${program.id}/events`);
        expect(await events.text()).toContain('{"stream":"stdout","data":"said\\n"}');
      }
    }));

  test('feeds Python of a session, which asks for its input where it stands, and none to the next piece', () =>
    opened(async (session) => {
      const asks =
        'name = input("who? ")\nprint("hello", name)\nimport sys\nrest = sys.stdin.read()\nlen(rest)';
      const python = await session.begin({ code: asks, input: true });
      const events = python[Symbol.asyncIterator]();
      await heard(events, 'who? ');
      await python.write('ada\n');
      await heard(events, 'hello ada\n');
      await python.write(new Blob([new Uint8Array(MIB).fill(97)]));
      expect(await python.write('end', { close: true })).toEqual({ bytes: 3, open: false });
      expect(await follow(python)).toMatchObject({
        stdout: `${MIB + 3}\n`,
        end: { exit_code: 0, context_state: 'kept' },
      });
      expect(await session.execute('name, input()')).toMatchObject({
        stdout: '',
        error: { name: 'EOFError' },
      });
      const deaf = await session.begin('import time\ntime.sleep(60)');
      expect(await codeOf(deaf.write('x'))).toBe('409 conflict');
      await deaf.signal('SIGINT');
      expect((await follow(deaf)).end).toMatchObject({ context_state: 'kept' });
      const stuck = await session.begin({ code: 'input()', input: true, timeout_ms: 500 });
      expect((await follow(stuck)).end).toMatchObject({ outcome: 'timed_out', context_state: 'kept' });
      expect((await session.execute('name')).stdout).toBe("'ada'\n");
    }));

  test('answers between two pieces of its input', () =>
    opened(async (session) => {
      const python = await session.spawn(`python3 -uc 'while True: print(eval(input()))'`);
      const events = python[Symbol.asyncIterator]();
      for (const [asked, answer] of [
        ['6 * 7\n', '42\n'],
        ['"é" * 3\n', 'ééé\n'],
      ] as const) {
        await python.write(asked);
        await heard(events, answer);
      }
      await python.write('1 + 1', { close: true });
      await heard(events, '2\n');
    }));

  test('takes input as fast as it reads it, and no faster', () =>
    opened(async (session) => {
      const slow = await session.spawn('read go; sha256sum; echo over');
      let made = 0;
      const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
        pull(controller) {
          if (made === 64) controller.close();
          else controller.enqueue(new Uint8Array(MIB).fill(97));
          made += 1;
        },
      });
      // Its own first line comes last: until then it reads nothing but that.
      const held = await session.spawn('sleep 1000');
      const writing = held.write(body).catch(() => 'ended');
      await slow.write(new Blob(['go\n']));
      // Over the window, the sockets' and a few chunks nothing more is made.
      for (let before = -1; before !== made; ) {
        before = made;
        await session.bash('true');
      }
      expect(made).toBeLessThan(24);
      await held.signal('SIGKILL');
      expect(await writing).toBe('ended');
      await slow.write(new Blob([new Uint8Array(8 * MIB).fill(97)]), { close: true });
      const { stdout } = await follow(slow);
      expect(stdout).toContain('over\n');
    }));

  test('is not said to have what came behind the end that another request set', () =>
    opened(async (session) => {
      const cat = await session.spawn('cat; echo over; sleep 100');
      const events = cat[Symbol.asyncIterator]();
      const pieces = new TransformStream<Uint8Array<ArrayBuffer>>();
      const writer = pieces.writable.getWriter();
      const writing = codeOf(cat.write(pieces.readable));
      await writer.write(Buffer.from('before\n'));
      await heard(events, 'before');
      expect(await cat.end()).toEqual({ bytes: 0, open: false });
      await heard(events, 'over');
      await writer.write(Buffer.from('behind\n'));
      void writer.close().catch(() => {});
      expect(await writing).toBe('409 conflict');
      await cat.signal('SIGKILL');
    }));

  test('is sent signals with its whole process group, and not with what made a group of its own', () =>
    opened(async (session) => {
      const says = (name: string) =>
        `trap "echo ${name}; exit" USR1; echo begun; while :; do sleep 0.1; done`;
      const group = await session.spawn(
        `(${says('child')}) & setsid bash -c '${says('other')}' & ${says('main').replace('exit', 'wait %1; exit')}`,
      );
      const events = group[Symbol.asyncIterator]();
      await heard(events, 'begun', 3);
      await group.signal('SIGUSR1');
      const { stdout } = await follow(group);
      expect(stdout.split('\n').sort()).toEqual(['', 'child', 'main']);
    }));

  test('takes all that it started with it where it is a command; what Python started stays', () =>
    opened(async (session) => {
      await session.bash('nohup sleep 1001 & setsid sleep 1002 & sleep 1003 &');
      const quiet = 'stdin=-3, stdout=-3, stderr=-3';
      await session.execute(`import subprocess\nkept = subprocess.Popen(["sleep", "1004"], ${quiet})`);
      const seen =
        'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline; echo; done 2>/dev/null | grep ^sleep';
      expect((await session.bash(seen)).stdout.trim()).toBe('sleep 1004');
      expect((await session.execute('kept.poll() is None')).stdout).toBe('True\n');
      await session.restart();
      await expect.poll(async () => (await session.bash(seen)).stdout).toBe('');
    }));

  test('is sent signals, which it heeds as it likes', () =>
    opened(async (session) => {
      const trap = await session.spawn(
        'trap "echo int" INT; trap "echo usr; exit 7" USR1; echo up; while :; do sleep 0.05; done',
      );
      const events = trap[Symbol.asyncIterator]();
      await heard(events, 'up');
      await trap.signal('SIGINT');
      await heard(events, 'int');
      await trap.signal('SIGUSR1');
      const rest = await follow(trap);
      expect(rest).toMatchObject({ stdout: 'usr\n', end: { exit_code: 7, outcome: 'exited' } });
      const sleep = await session.spawn('sleep 100');
      await sleep.signal('SIGTERM');
      expect((await follow(sleep)).end).toMatchObject({ exit_code: 143, signal: 15, outcome: 'signaled' });
    }));

  test('is interrupted without losing its state where it is Python', () =>
    opened(async (session) => {
      await session.execute('x = 5');
      const piece = await session.begin('print("up", flush=True)\nimport time\ntime.sleep(100)');
      const events = piece[Symbol.asyncIterator]();
      await heard(events, 'up');
      await piece.signal('SIGINT');
      expect((await follow(piece)).end).toMatchObject({
        exit_code: 1,
        outcome: 'exited',
        context_state: 'kept',
        error: { name: 'KeyboardInterrupt' },
      });
      expect((await session.execute('x')).stdout).toBe('5\n');
    }));

  test('takes nothing more once it has ended, or where it takes nothing, with a code', () =>
    opened(async (session) => {
      const ended: Program<BashEnd> = await session.spawn('true');
      await follow(ended);
      expect(await codeOf(ended.write('x'))).toBe('409 conflict');
      expect(await codeOf(ended.signal('SIGINT'))).toBe('409 conflict');
      const closed = await session.spawn('sleep 100');
      await closed.end();
      expect(await codeOf(closed.write('x'))).toBe('409 conflict');
      const path = `/v1/executions/${closed.id}`;
      const post = (rest: string, body: object) => stack().post(path + rest, body);
      expect((await post('/signal', { signal: 'SIGWHAT' })).status).toBe(422);
      expect((await post('/signal', { signal: 9 })).status).toBe(422);
      expect((await post('/stdin?close=maybe', {})).status).toBe(422);
      await closed.signal('SIGKILL');
      const plain = await stack().podgate.start({ code: 'import time; time.sleep(2)' });
      expect((await stack().post(`/v1/executions/${plain}/signal`, { signal: 'SIGINT' })).status).toBe(409);
      expect((await stack().post(`/v1/executions/${plain}/stdin`, {})).status).toBe(409);
      await stack().podgate.executions.cancel(plain);
      expect((await stack().post('/v1/executions/nonsense/signal', { signal: 'SIGINT' })).status).toBe(404);
      expect((await stack().post('/v1/executions/nonsense/stdin', {})).status).toBe(404);
    }));

  test('is reached by its id with a key for sessions alone, which reaches no other execution', async () => {
    const podgate = await stack().client({ sub: 'sessions-alone', scopes: ['sessions'] });
    await using session = await podgate.sessions.create();
    const cat = await session.spawn('trap "echo usr" USR1; echo up; cat');
    const events = cat[Symbol.asyncIterator]();
    await heard(events, 'up');
    expect(await podgate.executions.get(cat.id)).toMatchObject({ state: 'started' });
    await cat.write('said\n');
    await heard(events, 'said');
    await podgate.executions.cancel(cat.id);
    let told = '';
    for await (const event of podgate.executions.events(cat.id))
      if (event.type === 'output') told += event.data;
    expect(told).toBe('up\nsaid\n');
    const executing = await stack().client({ sub: 'sessions-alone', scopes: ['execute'] });
    expect(await executing.executions.get(cat.id)).toMatchObject({ state: 'ended' });
    const plain = await executing.start({ code: 'import time; time.sleep(60)' });
    expect(await codeOf(podgate.executions.get(plain))).toBe('404 not_found');
    expect(await codeOf(podgate.executions.cancel(plain))).toBe('404 not_found');
    expect(await codeOf(podgate.executions.events(plain).next())).toBe('404 not_found');
    for (const [path, body] of [
      ['stdin', {}],
      ['signal', { signal: 'SIGKILL' }],
    ] as const) {
      const key = await stack().key({ sub: 'sessions-alone', scopes: ['sessions'] });
      const headers = { authorization: `Bearer ${key}` };
      const answer = await stack().post(`/v1/executions/${plain}/${path}`, body, headers);
      expect(answer.status).toBe(404);
    }
    expect(await executing.executions.get(plain)).toMatchObject({ state: 'started' });
    await executing.executions.cancel(plain);
  });

  test('is nobody else’s to feed or to signal', () =>
    opened(async (session) => {
      const sleep = await session.spawn('sleep 100');
      const other = { headers: { 'podgate-user': 'mallory' } };
      for (const [path, body] of [
        ['stdin', {}],
        ['signal', { signal: 'SIGKILL' }],
      ] as const) {
        const answer = await stack().fetch(`/v1/executions/${sleep.id}/${path}`, {
          method: 'POST',
          body: JSON.stringify(body),
          ...other,
        });
        expect(answer.status).toBe(404);
      }
      await sleep.signal('SIGTERM');
      expect((await follow(sleep)).end.signal).toBe(15);
    }));
});
