import { expect, test } from 'vitest';
import type { ExecuteResponse } from '../../shared/api.ts';
import {
  expectFiguresAndTable,
  expectShown,
  FIGURES_AND_TABLE,
  pythonTemplates,
  SHOWN,
  SHOWN_FIGURES,
  TWO_FIGURES,
  tableOf,
} from './python-values.ts';
import { describeStack } from './suite.ts';

const TEMPLATES = pythonTemplates({ memory_mb: 512, cpu_seconds: 20, timeout_ms: 20_000 });

describeStack('an execution that is asked for its results', { templates: TEMPLATES }, (stack) => {
  const post = (code: string, rest: object = {}) =>
    stack().post('/v1/execute', { code, rich: true, timeout_ms: 10_000, ...rest });
  const run = async (code: string, rest: object = {}): Promise<ExecuteResponse> => {
    const response = await post(code, rest);
    expect(response.status, await response.clone().text()).toBe(200);
    return (await response.json()) as ExecuteResponse;
  };

  test('gives its last value as a notebook does, in place of the print', async () => {
    const shown = await run(`print("said")${SHOWN}`);
    expect(shown).toMatchObject({
      stdout: 'said\n',
      stderr: '',
      exit_code: 0,
      results_omitted: [],
      error: null,
    });
    expectShown(shown.results);
    expect((await run('6 * 7')).results).toMatchObject([{ data: { 'text/plain': '42' } }]);
    expect((await run('"a string alone"')).results).toMatchObject([
      { data: { 'text/plain': "'a string alone'" } },
    ]);
    for (const code of ['None', 'x = 1', '', 'def f(): pass']) expect((await run(code)).results).toEqual([]);
    expect(await run('6 * 7', { last_line_interactive: false })).toMatchObject({ stdout: '', results: [] });
  });

  test('has display(), as notebooks do, and a name of its own where it wants one', async () => {
    const shown = await run(
      `print("said")\ndisplay(1, "two")${SHOWN.replace(/Shown\(\)$/, 'display(Shown())')}`,
    );
    expect(shown).toMatchObject({ stdout: 'said\n', results_omitted: [], error: null });
    expect(shown.results?.map(({ kind, data }) => [kind, data['text/plain']])).toEqual([
      ['display', '1'],
      ['display', "'two'"],
      ['display', 'shown'],
    ]);
    expect(shown.results?.at(2)?.data['text/html']).toBe('<b>é</b>');
    expect(await run('def display(x): print("mine", x)\ndisplay(3)')).toMatchObject({ stdout: 'mine 3\n' });
    expect(await run('display(3)', { rich: false })).toMatchObject({ exit_code: 1, stdout: '' });
  });

  test('gives what IPython’s display is given, which is the same there, and raw representations', async () => {
    const core = `def display(*values, **options): print(*values)
def publish_display_data(data, metadata=None, *, transient=None, **_): print(*data)
`;
    const staged = [
      ['__init__.py', ''],
      ['core/__init__.py', ''],
      ['core/display_functions.py', core],
      ['display.py', 'from IPython.core.display_functions import *\n'],
    ].map(([path, content]) => ({ path: `IPython/${path}`, content }));
    const code = `from IPython.display import display as show
show(6, display_id="a")
show({"text/html": "<b>", 3: "none"}, raw=True)
display({"text/markdown": "*m*"}, raw=True)`;
    const shown = await run(code, { files: staged });
    expect(shown).toMatchObject({ stdout: '', stderr: '', error: null });
    expect(shown.results).toEqual([
      { kind: 'display', data: { 'text/plain': '6' } },
      { kind: 'display', data: { 'text/html': '<b>' } },
      { kind: 'display', data: { 'text/markdown': '*m*' } },
    ]);
    const plain = await run(code.split('\n', 2).join('\n'), { files: staged, rich: false });
    expect(plain.stdout).toBe('6\n');
    const publish = `from IPython.display import publish_display_data as publish
publish({"text/html": "<i>"}, {}, transient={"display_id": "a"})
publish(data={"text/html": "<p>"})
publish({"text/html": "<u>"}, update=True, transient={"display_id": "a"})`;
    const published = await run(publish, { files: staged });
    expect(published).toMatchObject({ stdout: '', stderr: '', error: null });
    expect(published.results).toEqual([
      { kind: 'display', data: { 'text/html': '<u>' } },
      { kind: 'display', data: { 'text/html': '<p>' } },
    ]);
    const printed = await run(publish, { files: staged, rich: false });
    expect(printed.stdout).toBe('text/html\n'.repeat(3));
  });

  test('says nothing of results where it is not asked', async () => {
    const plain = await run('6 * 7', { rich: false });
    expect(plain.stdout).toBe('42\n');
    for (const name of ['results', 'results_omitted', 'error']) expect(plain).not.toHaveProperty(name);
  });

  test('gives a plot without savefig as PNG, also one that stood when it failed, and a table as HTML and JSON', {
    timeout: 60_000,
  }, async (context) => {
    const shown = await run(FIGURES_AND_TABLE, { timeout_ms: 20_000 });
    context.skip(shown.error?.name === 'ModuleNotFoundError', 'no matplotlib and pandas here');
    expect(shown.error).toBeNull();
    expectFiguresAndTable(shown.results);
    const failed = await run(`${TWO_FIGURES}1 / 0`, { timeout_ms: 20_000 });
    expect(failed.error?.name).toBe('ZeroDivisionError');
    expect(failed.results?.map(({ kind }) => kind)).toEqual(['figure', 'figure']);
  });

  test('gives a figure where plt.show() is called, and begins the next anew, as notebooks do', {
    timeout: 60_000,
  }, async (context) => {
    const shown = await run(`${SHOWN_FIGURES}"end"`, { timeout_ms: 20_000 });
    context.skip(shown.error?.name === 'ModuleNotFoundError', 'no matplotlib here');
    expect(shown).toMatchObject({ stdout: '1 [1]\n', stderr: '', error: null });
    expect(shown.results?.map(({ kind }) => kind)).toEqual(['figure', 'result', 'figure']);
    const failed = await run(`${SHOWN_FIGURES}plt.title("$\\\\frac$")\nplt.show()`, { timeout_ms: 20_000 });
    expect(failed.error?.frames.at(0)).toMatchObject({ line: 6, name: '<module>' });
    expect((await run(SHOWN_FIGURES, { rich: false, timeout_ms: 20_000 })).stdout).toBe('2 [1]\n');
  });

  test('draws a figure with fewer dots where it would be too large, and says so', {
    timeout: 60_000,
  }, async (context) => {
    const noise = (inches: number) => `import matplotlib.pyplot as plt, random
plt.figure(figsize=(${inches}, ${inches}), dpi=100)
plt.imshow([[random.random() for _ in range(1000)] for _ in range(1000)], interpolation="nearest")
plt.show()`;
    const drawn = await run(noise(15), { timeout_ms: 20_000 });
    context.skip(drawn.error?.name === 'ModuleNotFoundError', 'no matplotlib here');
    expect(drawn.error).toBeNull();
    expect(drawn.results).toMatchObject([{ kind: 'figure', data: { 'image/png': expect.any(String) } }]);
    expect(drawn.results_omitted).toEqual([{ type: 'image/png', reason: 'fewer_dots' }]);
    expect((await run(noise(5), { timeout_ms: 20_000 })).results_omitted).toEqual([]);
  });

  test('gives a figure that is its last value as PNG, once, and one that is displayed where it is', {
    timeout: 60_000,
  }, async (context) => {
    const closed = 'fig, ax = plt.subplots()\nplt.close(fig)\nax.plot([1, 2])\nfig';
    const shown = await run(`import matplotlib.pyplot as plt\n${closed}`, { timeout_ms: 20_000 });
    context.skip(shown.error?.name === 'ModuleNotFoundError', 'no matplotlib here');
    const kindsOf = ({ results }: ExecuteResponse) =>
      results?.map(({ kind, data }) => [kind, ...Object.keys(data).sort()]);
    expect(kindsOf(shown)).toEqual([['result', 'image/png', 'text/plain']]);
    const open = await run('import matplotlib.pyplot as plt\nplt.figure()', { timeout_ms: 20_000 });
    expect(kindsOf(open)).toEqual([
      ['result', 'text/plain'],
      ['figure', 'image/png'],
    ]);
    const displayed = 'fig, ax = plt.subplots()\nplt.figure()\ndisplay(fig)\nplt.close("all")';
    const before = await run(`import matplotlib.pyplot as plt\n${displayed}`, { timeout_ms: 20_000 });
    expect(kindsOf(before)).toEqual([['display', 'image/png', 'text/plain']]);
  });

  test('tells its error by name, value and frames, beside the traceback that Python prints', async () => {
    const failed = await run('def f():\n    return 1 / 0\nf()');
    expect(failed).toMatchObject({
      exit_code: 1,
      results: [],
      error: {
        name: 'ZeroDivisionError',
        value: 'division by zero',
        frames: [
          { line: 3, name: '<module>' },
          { line: 2, name: 'f' },
        ],
      },
    });
    expect(failed.stderr).toMatch(
      /^Traceback[\s\S]*__main__\.py", line 2, in f\n[\s\S]*ZeroDivisionError: division by zero\n$/,
    );
    const broken = await run('def f(:');
    expect(broken).toMatchObject({ exit_code: 1, error: { name: 'SyntaxError', frames: [] } });
    expect(await run('import sys\nsys.exit(3)')).toMatchObject({
      exit_code: 3,
      error: { name: 'SystemExit' },
    });
    const unshown = await run('class X:\n    def __repr__(self): return self.y\nX()');
    expect(unshown).toMatchObject({ exit_code: 1, error: { name: 'AttributeError', frames: [{ line: 2 }] } });
    const unspeakable = await run('raise ValueError("a" + chr(0xd800))');
    expect(unspeakable).toMatchObject({ error: { value: String.raw`a\ud800` } });
    expect(unspeakable.stderr).toContain(String.raw`ValueError: a\ud800`);
    const drawn = await run('class X:\n    def _repr_html_(self): return chr(0xd800)\nX()');
    expect(drawn.results?.at(0)?.data['text/html']).toBe(String.raw`\ud800`);
    for (const { stderr, error } of [failed, broken, unshown])
      expect(stderr + JSON.stringify(error)).not.toContain('podgate');
  });

  test('is run as any other: files come and go, its end is its own, no frame of ours is below it', async () => {
    const ran = await run(
      `
import atexit, sys
atexit.register(print, "bye")
open("results", "w").write("mine")
open("copy", "w").write(open("in.txt").read())
(__file__, sys._getframe().f_back, [name for name in sys.modules if "podgate" in name or name == "rich_python"])`,
      { files: [{ path: 'in.txt', content: 'given' }] },
    );
    expect(ran.results?.[0]?.data['text/plain']).toMatch(/^\('.*__main__\.py', None, \[\]\)$/);
    expect(ran).toMatchObject({ stdout: 'bye\n', exit_code: 0, files_omitted_count: 0 });
    expect(ran.files.map(({ path }) => path).sort()).toEqual(['copy', 'results']);
  });

  test('that is killed has its output and what it displayed until then', async () => {
    const displayed = { stdout: 'a\n', results: [{ data: { 'text/plain': '1' } }], error: null };
    const begin = 'print("a", flush=True)\ndisplay(1)\n';
    expect(await run(`${begin}import time; time.sleep(60)`, { timeout_ms: 2_000 })).toMatchObject({
      ...displayed,
      outcome: 'timed_out',
    });
    const child = 'if os.fork() == 0: display(2); os._exit(0)\nos.wait()\n';
    expect(await run(`import os\n${begin}${child}os.kill(os.getpid(), 9)`)).toMatchObject({
      ...displayed,
      outcome: 'signaled',
    });
  });

  test('that lets go of what its results go to has its output and no results', async () => {
    expect(
      await run('import os\nos.closerange(3, 256)\nopen("f", "w")\nf = open("g", "w")\n7'),
    ).toMatchObject({
      exit_code: 0,
      results: [],
      files: [{ path: 'f' }, { path: 'g' }],
    });
    expect(
      await run('import os\nif os.fork(): os.wait()\nelse: child = True\n"child" in globals()'),
    ).toMatchObject({
      results: [{ data: { 'text/plain': 'False' } }],
    });
  });

  test('bounds what it gives, and says what was cut', async () => {
    const given = async (part: string) =>
      run(
        `class Big:\n    def _repr_mimebundle_(self): return ${part}\n    def __repr__(self): return "big"\nBig()`,
      );
    const MIB = 1 << 20;
    const whole = await given(`{"text/html": "x" * (2 * ${MIB})}`);
    expect(String(whole.results?.[0]?.data['text/html']).length).toBe(2 * MIB);
    const over = await given(`{"text/html": "x" * (2 * ${MIB} + 1)}`);
    expect(over).toMatchObject({ results: [{ data: { 'text/plain': 'big' } }] });
    expect(over.results_omitted).toEqual([{ type: 'text/html', reason: 'too_large' }]);
    // Written out this is six times as long.
    const wide = await given(`{"text/a": "\\x01" * 700000, "text/b": "\\x01" * 700000}`);
    expect(wide.results_omitted).toEqual([{ type: 'text/b', reason: 'too_large' }]);
    const many = await given('{"text/%d" % n: "x" for n in range(70)}');
    expect(Object.keys(many.results?.[0]?.data ?? {})).toHaveLength(64);
    expect(many.results_omitted?.[0]).toMatchObject({ reason: 'too_many' });
    const nested = await given('{"application/json": [0] * 70000}');
    expect(nested.results_omitted).toEqual([{ type: 'application/json', reason: 'too_large' }]);
  });

  test('cuts a text that would be too large, as output is cut, and says so', async () => {
    const textOf = ({ results }: ExecuteResponse) => String(results?.[0]?.data['text/plain']);
    const MIB = 1 << 20;
    const whole = await run(`"x" * (2 * ${MIB} - 2)`);
    expect([textOf(whole).length, whole.results_omitted]).toEqual([2 * MIB, []]);
    for (const code of [`"é" * ${MIB}`, `display("é" * ${MIB})`, `list(range(1_000_000))`]) {
      const { results, results_omitted, stdout } = await run(code);
      const text = textOf({ results } as ExecuteResponse);
      expect(text).toMatch(/^('é{100}|\[0, 1, 2, )[\s\S]*\n\.\.\.\[truncated\]$/);
      expect(Buffer.byteLength(text)).toBeGreaterThanOrEqual(MIB - 1);
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MIB);
      expect([results_omitted, stdout]).toEqual([[{ type: 'text/plain', reason: 'truncated' }], '']);
    }
  });

  test('says where the JSON of a table has only its first rows', async () => {
    const table = async (rows: number) => {
      const { results, results_omitted } = await run(tableOf(rows));
      const json = results?.[0]?.data['application/json'] as { index: number[] } | undefined;
      return [json?.index.length, results_omitted];
    };
    expect(await table(1_000)).toEqual([1_000, []]);
    const cut = [{ type: 'application/json', reason: 'too_many_rows' }];
    expect(await table(1_001)).toEqual([1_000, cut]);
  });

  test('is for python alone', async () => {
    const response = await post('echo hi', { language: 'bash' });
    expect(response.status).toBe(422);
    expect(await response.json()).toMatchObject({ code: 'invalid_request', errors: [{ path: 'rich' }] });
    expect((await post('1', { rich: 'yes' })).status).toBe(422);
  });

  test('streams its output, then its results; and whoever comes back has them too', async () => {
    const { podgate } = stack();
    const events = [];
    for await (const event of podgate.stream({
      code: 'print("a")\nopen("f", "w").close()\n6 * 7',
      rich: true,
    }))
      events.push(event);
    expect(events.at(-1)).toMatchObject({
      type: 'result',
      results: [{ kind: 'result', data: { 'text/plain': '42' } }],
      files: [{ path: 'f' }],
    });
    const id = await podgate.start({ code: 'open("f", "w").write("1")\n6 * 7', rich: true });
    for (let times = 0; times < 2; times += 1) {
      const again = [];
      for await (const event of podgate.executions.events(id)) again.push(event);
      expect(again).toMatchObject([
        { type: 'result', results: [{ data: { 'text/plain': '42' } }], files: [{ path: 'f' }] },
      ]);
    }
  });
});
