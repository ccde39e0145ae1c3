import { expect, test } from 'vitest';
import type { PythonResponse, SessionResponse } from '../../shared/session-api.ts';
import { eventually } from '../fakes/eventually.ts';
import {
  expectFiguresAndTable,
  expectShown,
  FIGURES_AND_TABLE,
  pythonTemplates,
  SHOWN,
  SHOWN_FIGURES,
} from './python-values.ts';
import { describeStack } from './suite.ts';

const TEMPLATES = pythonTemplates({ memory_mb: 512, cpu_seconds: 20, timeout_ms: 20_000 });

describeStack('Python in a session', { templates: TEMPLATES }, (stack) => {
  const open = async (): Promise<string> => {
    const response = await stack().post('/v1/sessions', {});
    expect(response.status, await response.clone().text()).toBe(201);
    return ((await response.json()) as SessionResponse).session_id;
  };
  const post = (id: string, code: string, rest: object = {}) =>
    stack().post(`/v1/sessions/${id}/execute`, { code, ...rest });
  const run = async (id: string, code: string, rest: object = {}): Promise<PythonResponse> => {
    const response = await post(id, code, rest);
    expect(response.status, await response.clone().text()).toBe(200);
    return (await response.json()) as PythonResponse;
  };
  const end = (id: string) => stack().fetch(`/v1/sessions/${id}`, { method: 'DELETE' });

  test('remembers variables, imports, functions and open files from one execution to the next', async () => {
    const id = await open();
    const first = await run(
      id,
      'import math\nx = 41\ndef f(n): return n + x\nh = open("t.txt", "w+")\nprint("begun")',
    );
    expect(first).toMatchObject({ stdout: 'begun\n', exit_code: 0, outcome: 'exited', error: null });
    expect(first).toMatchObject({ context: 'main', context_state: 'kept' });
    const next = await run(id, 'h.write("kept"); h.flush(); h.seek(0)\nprint(h.read(), math.pi > 3)\nf(1)');
    expect(next.stdout).toBe('kept True\n42\n');
    const shell = await stack().post(`/v1/sessions/${id}/bash`, { cmd: 'cat t.txt' });
    expect(((await shell.json()) as { stdout: string }).stdout).toBe('kept');
    await end(id);
  });

  test('keeps several contexts that know nothing of each other, and starts one anew when asked', async () => {
    const id = await open();
    await run(id, 'x = 1');
    expect((await run(id, '"x" in globals()', { context: 'other' })).stdout).toBe('False\n');
    await run(id, 'x = 2', { context: 'other' });
    const restarted = await stack().post(`/v1/sessions/${id}/contexts/other/restart`, {});
    expect(restarted.status).toBe(204);
    expect((await run(id, '"x" in globals()', { context: 'other' })).stdout).toBe('False\n');
    expect((await run(id, 'x')).stdout).toBe('1\n');
    await end(id);
  });

  test('interrupts at the timeout without losing state, and kills only what does not heed it', async () => {
    const id = await open();
    await run(id, 'x = 5');
    const slow = await run(id, 'import time\ntry:\n    time.sleep(60)\nfinally:\n    x += 1', {
      timeout_ms: 300,
    });
    expect(slow).toMatchObject({ outcome: 'timed_out', timed_out: true, exit_code: null });
    expect(slow).toMatchObject({ context_state: 'kept', error: { name: 'KeyboardInterrupt' } });
    expect((await run(id, 'x')).stdout).toBe('6\n');
    const deaf = 'while True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass';
    const killed = await run(id, deaf, { timeout_ms: 300 });
    expect(killed).toMatchObject({ outcome: 'timed_out', exit_code: null, context_state: 'lost' });
    expect((await run(id, '"x" in globals()')).stdout).toBe('False\n');
    await end(id);
  });

  test('gives what its threads print to the piece that runs then, and to none where none does', async () => {
    const id = await open();
    await run(
      id,
      `import os, threading, time
def wait(name):
    while not os.path.exists(name): time.sleep(0.01)
def speak():
    wait("go"); print("between"); open("said", "w").close()
    wait("again"); print("beside"); open("end", "w").close()
threading.Thread(target=speak).start()`,
    );
    const cmd = 'touch go; until [ -e said ]; do sleep 0.01; done';
    expect((await stack().post(`/v1/sessions/${id}/bash`, { cmd })).status).toBe(200);
    const { stdout } = await run(id, 'open("again", "w").close(); wait("end"); print("own")');
    expect(stdout).toBe('beside\nown\n');
    await end(id);
  });

  test('awaits at the top level', async () => {
    const id = await open();
    await run(
      id,
      'import asyncio\nq = asyncio.Queue()\nasync def put():\n    await asyncio.sleep(0.01)\n    await q.put(7)',
    );
    expect((await run(id, 'task = asyncio.ensure_future(put())\nawait q.get()')).stdout).toBe('7\n');
    // The loop stands still between them.
    expect((await run(id, 'asyncio.create_task(put())')).error?.value).toBe('no running event loop');
    await run(id, 'task = asyncio.create_task(put())\nawait asyncio.sleep(0)');
    expect((await run(id, 'q.empty()')).stdout).toBe('True\n');
    expect((await run(id, 'await q.get()')).stdout).toBe('7\n');
    await end(id);
  });

  test('runs one piece in a context at a time: 409 beyond, while others run beside it', async () => {
    const id = await open();
    await run(id, 'import time');
    const held = run(id, 'open("begun", "w").close()\ntime.sleep(2)\nprint("end")');
    await eventually(async () => {
      const shell = await stack().post(`/v1/sessions/${id}/bash`, { cmd: 'ls begun' });
      return ((await shell.json()) as { exit_code: number }).exit_code === 0;
    });
    const second = await post(id, '1');
    expect([second.status, await second.json()]).toMatchObject([
      409,
      { code: 'busy', detail: expect.stringContaining("'main' runs something already: ask again when") },
    ]);
    expect((await run(id, 'print("beside")', { context: 'b' })).stdout).toBe('beside\n');
    expect((await held).stdout).toBe('end\n');
    await end(id);
  });

  test('tells an error by name, value and frames, beside the traceback that Python prints', async () => {
    const id = await open();
    await run(id, 'def f():\n    return 1 / 0');
    const failed = await run(id, 'f()');
    expect(failed).toMatchObject({
      exit_code: 1,
      error: {
        name: 'ZeroDivisionError',
        value: 'division by zero',
        frames: [
          { file: '<execution 2>', line: 1, name: '<module>' },
          { file: '<execution 1>', line: 2, name: 'f' },
        ],
      },
    });
    expect(failed.stderr).toContain('return 1 / 0');
    expect(failed.stderr).not.toContain('podgate');
    expect(await run(id, 'import sys; sys.exit(4)')).toMatchObject({ exit_code: 4, context_state: 'kept' });
    const died = await run(id, 'import os; os.kill(os.getpid(), 9)');
    expect(died).toMatchObject({ outcome: 'signaled', exit_code: 137, context_state: 'lost' });
    await end(id);
  });

  test('says once that its state is lost where it ended between two pieces of code, and nothing of it after a restart', async () => {
    const id = await open();
    const pids = await run(id, 'import os\nx = 1\nprint(os.getpid(), os.getppid())');
    const [pid, warden] = pids.stdout.trim().split(' ');
    await run(id, 'y = 2', { context: 'other' });
    const killed = await stack().post(`/v1/sessions/${id}/bash`, {
      cmd: `kill -9 ${pid}; while test -e /proc/${warden}; do sleep 0.01; done`,
    });
    expect(await killed.json()).toMatchObject({ exit_code: 0 });
    const after = await run(id, '"x" in dir()');
    expect(after).toMatchObject({ stdout: 'False\n', outcome: 'exited', context_state: 'lost' });
    expect(await run(id, 'x = 3')).toMatchObject({ context_state: 'kept' });
    expect(await run(id, 'y', { context: 'other' })).toMatchObject({ stdout: '2\n', context_state: 'kept' });
    expect(await run(id, 'os = __import__("os"); os._exit(1)')).toMatchObject({ context_state: 'lost' });
    expect(await run(id, '1')).toMatchObject({ context_state: 'kept' });
    await stack().post(`/v1/sessions/${id}/contexts/main/restart`, {});
    expect(await run(id, '"os" in dir()')).toMatchObject({ stdout: 'False\n', context_state: 'kept' });
    await end(id);
  });

  test('stays one interpreter when its code forks and both come to its end', async () => {
    const id = await open();
    const forked = await run(
      id,
      'import os\nx = 1\npid = os.fork()\nif pid == 0: x = 2\nelse: os.waitpid(pid, 0)\nx',
    );
    expect(forked).toMatchObject({ exit_code: 0, context_state: 'kept' });
    expect(forked.stdout.split('\n').sort()).toEqual(['', '1', '2']);
    for (let times = 0; times < 4; times += 1) expect((await run(id, 'x')).stdout).toBe('1\n');
    await end(id);
  });

  test('sees no frame below its own', async () => {
    const id = await open();
    const look = 'import sys, traceback\ntraceback.print_stack(file=sys.stdout)\nsys._getframe().f_back';
    expect((await run(id, look)).stdout).toBe(
      '  File "<execution 1>", line 2, in <module>\n    traceback.print_stack(file=sys.stdout)\n',
    );
    const failed = await run(id, 'def f(): return 1 / 0\nx = f()');
    expect(failed.stderr).not.toMatch(/podgate|outermost|session_python/);
    expect(failed.error?.frames.map(({ line }) => line)).toEqual([2, 1]);
    expect((await run(id, 'f(sys._getframe().f_back)')).stderr).toMatch(/TypeError/);
    const shows = 'class X:\n    def __repr__(self): return self.y\nX()';
    for (const rich of [true, false]) {
      const unshown = await run(id, shows, { rich });
      expect(unshown.stderr).not.toMatch(/podgate|session_/);
      expect(unshown.error).toMatchObject({ name: 'AttributeError', frames: [{ line: 2 }] });
    }
    await end(id);
  });

  test('gives the last value as a notebook does, bounded, and says what was cut', async () => {
    const id = await open();
    const shown = await run(id, SHOWN, { rich: true });
    expect(shown.stdout).toBe('');
    expectShown(shown.results);
    const cut = await run(id, 'class Big:\n    def _repr_html_(self): return "x" * (3 << 20)\nBig()', {
      rich: true,
    });
    expect(Object.keys(cut.results[0]?.data ?? {})).toEqual(['text/plain']);
    expect(cut.results_omitted).toEqual([{ type: 'text/html', reason: 'too_large' }]);
    expect((await run(id, 'None', { rich: true })).results).toEqual([]);
    expect((await run(id, '_ is not None')).stdout).toBe('True\n');
    await end(id);
  });

  test('gives a plot without savefig as PNG, and a table as HTML and JSON', async (context) => {
    const id = await open();
    const shown = await run(id, FIGURES_AND_TABLE, { rich: true, timeout_ms: 20_000 });
    context.skip(shown.error?.name === 'ModuleNotFoundError', 'no matplotlib and pandas here');
    expect(shown.error).toBeNull();
    expectFiguresAndTable(shown.results);
    expect((await run(id, 'plt.get_fignums()', { rich: true })).results).toMatchObject([
      { data: { 'text/plain': '[]' } },
    ]);
    await end(id);
  });

  test('gives a figure where plt.show() is called, also when pyplot was there before', async (context) => {
    const id = await open();
    for (let piece = 0; piece < 2; piece++) {
      const shown = await run(id, SHOWN_FIGURES, { rich: true, timeout_ms: 20_000 });
      context.skip(shown.error?.name === 'ModuleNotFoundError', 'no matplotlib here');
      expect(shown).toMatchObject({ stdout: '1 [1]\n', stderr: '', error: null });
      expect(shown.results.map(({ kind }) => kind)).toEqual(['figure', 'figure']);
    }
    expect((await run(id, SHOWN_FIGURES, { timeout_ms: 20_000 })).stdout).toBe('2 [1]\n');
    await end(id);
  });

  test('gives the figures of a piece that failed with that piece, and leaves none for the next', async (context) => {
    const id = await open();
    const timeout_ms = 20_000;
    const loaded = await run(id, 'import matplotlib.pyplot as plt\nimport time', { timeout_ms });
    context.skip(loaded.error?.name === 'ModuleNotFoundError', 'no matplotlib here');
    const failed = await run(id, 'plt.plot([1, 2])\n1 / 0', { rich: true, timeout_ms });
    expect(failed.error).toMatchObject({ name: 'ZeroDivisionError' });
    expect(failed.results).toMatchObject([{ kind: 'figure', data: { 'image/png': expect.any(String) } }]);
    const left = await run(id, 'import sys\nplt.plot([1, 2])\nsys.exit(3)', { rich: true, timeout_ms });
    expect([left.exit_code, left.results.length]).toEqual([3, 1]);
    // What cannot be drawn is the error of its own piece alone.
    const broken = await run(id, 'plt.plot([1]); plt.title("$\\\\frac$")', { rich: true, timeout_ms });
    expect([broken.error?.name, broken.results.filter(({ kind }) => kind === 'figure')]).toEqual([
      'ValueError',
      [],
    ]);
    const slow = await run(id, 'plt.figure()\ntime.sleep(60)', { rich: true, timeout_ms: 1_000 });
    expect(slow).toMatchObject({ outcome: 'timed_out', context_state: 'kept', results: [] });
    expect(slow.results_omitted).toEqual([{ type: 'image/png', reason: 'interrupted' }]);
    const next = await run(id, 'plt.get_fignums()', { rich: true, timeout_ms });
    expect(next.results).toMatchObject([{ kind: 'result', data: { 'text/plain': '[]' } }]);
    await end(id);
  });

  test('displays anew what updates something of an earlier piece', async () => {
    const id = await open();
    await run(id, 'handle = display(1, display_id=True)', { rich: true });
    const later = await run(id, 'handle.update(2); handle.update(3)', { rich: true });
    expect(later.results).toEqual([{ kind: 'display', data: { 'text/plain': '3' } }]);
    expect((await run(id, 'handle.update(4)')).stdout).toBe('4\n');
  });

  test('gives what a piece displayed before it was killed', async () => {
    const id = await open();
    const killed = await run(id, 'display(1)\nimport os; os.kill(os.getpid(), 9)', { rich: true });
    expect(killed).toMatchObject({
      context_state: 'lost',
      results: [{ kind: 'display', data: { 'text/plain': '1' } }],
      error: null,
    });
  });

  test('is the same through the client', async () => {
    await using session = await stack().podgate.sessions.create();
    await session.execute('x = 6');
    expect((await session.execute('x * 7')).stdout).toBe('42\n');
    const events = [];
    for await (const event of session.stream({ code: 'print(x, end="")\nx', rich: true })) events.push(event);
    expect(events).toMatchObject([
      { type: 'output', stream: 'stdout', data: '6' },
      { type: 'result', results: [{ kind: 'result', data: { 'text/plain': '6' } }] },
    ]);
    await session.restart();
    expect((await session.execute('"x" in globals()')).stdout).toBe('False\n');
    const lines = [];
    for await (const event of session.bashStream('echo a; exit 2')) lines.push(event);
    expect(lines).toMatchObject([{ data: 'a\n' }, { type: 'result', exit_code: 2 }]);
    expect((await session.extend(1_000)).session_id).toBe(session.id);
    const { sessions } = await stack().podgate.sessions.list();
    expect(sessions.map(({ session_id }) => session_id)).toContain(session.id);
  });

  test('streams output as it comes, then the result', async () => {
    const id = await open();
    const response = await stack().post(`/v1/sessions/${id}/execute/stream`, {
      code: 'print("a")\n6 * 7',
      rich: true,
    });
    const text = await response.text();
    const [, pieces = '', result = ''] =
      /^((?:event: output\n.*\n\n)+)event: result\ndata: (.*)\n/.exec(text) ?? [];
    // Python writes the line and its end in two.
    const printed = [...pieces.matchAll(/data: (.*)\n/g)].map(([, data = '']) => JSON.parse(data).data);
    expect(printed.join('')).toBe('a\n');
    expect(JSON.parse(result)).toMatchObject({
      results: [{ data: { 'text/plain': '42' } }],
      context: 'main',
    });
    await end(id);
  });

  test('holds the limits of processor and memory, and keeps what it can', async () => {
    const id = await open();
    await run(id, 'x = 1');
    const memory = await run(id, 'y = b"x" * (1 << 30)');
    expect(memory).toMatchObject({ exit_code: 1, error: { name: 'MemoryError' }, context_state: 'kept' });
    expect((await run(id, 'x')).stdout).toBe('1\n');
    await end(id);
  });

  test('is validated before anything runs', async () => {
    const id = await open();
    expect((await post(id, '1', { context: 'a b' })).status).toBe(422);
    expect((await post(id, '1', { timeout_ms: 0 })).status).toBe(422);
    expect((await stack().post(`/v1/sessions/${id}/execute`, {})).status).toBe(422);
    await end(id);
    expect((await post(id, '1')).status).toBe(404);
  });
});
