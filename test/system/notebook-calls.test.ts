import { describe, expect, test } from 'vitest';
import type { ExecuteResponse } from '../../shared/api.ts';
import { describeStack } from './suite.ts';

describeStack('code that was written for a notebook', {}, (stack) => {
  const run = async (code: string, rest: object = {}): Promise<ExecuteResponse> => {
    const response = await stack().post('/v1/execute', { code, rich: true, timeout_ms: 10_000, ...rest });
    expect(response.status, await response.clone().text()).toBe(200);
    return (await response.json()) as ExecuteResponse;
  };
  const given = ({ results }: ExecuteResponse) => results?.map(({ kind, data }) => [kind, data]);

  describe('and shows figures of Plotly', () => {
    const files = [
      ['__init__.py', ''],
      ['io/__init__.py', ''],
      [
        'io/_renderers.py',
        `class Renderers: default = ""
renderers = Renderers()
class Figure:
    def _repr_mimebundle_(self):
        if not renderers.default: raise ValueError("Invalid named renderer")
        return {"application/%s+json" % renderers.default: {"data": []}}
    def __repr__(self): return "figure"
def show(fig, renderer=None): print("browser", renderer)
`,
      ],
      ['graph_objs.py', 'from plotly.io import _renderers\ndef Figure(_): return _renderers.Figure()\n'],
    ].map(([path, content]) => ({ path: `plotly/${path}`, content }));
    const begin = 'from plotly.io._renderers import Figure, renderers, show\n';
    const data = { 'application/plotly_mimetype+json': { data: [] }, 'text/plain': 'figure' };

    test('has them as values and where they are shown, though there is no browser', async () => {
      const shown = await run(`${begin}show(Figure())\nshow({"data": []})\nFigure()`, { files });
      expect(shown).toMatchObject({ stdout: '', error: null });
      expect(given(shown)).toEqual([
        ['display', data],
        ['display', data],
        ['result', data],
      ]);
    });

    test('has the renderer that it asks for', async () => {
      const shown = await run(`${begin}show(Figure(), "json")`, { files });
      expect([shown.stdout, given(shown)]).toEqual(['browser json\n', []]);
      const chosen = await run(`${begin}renderers.default = "mine"\nFigure()`, { files });
      expect(given(chosen)?.[0]?.[1]).toHaveProperty(['application/mine+json']);
    });
  });

  describe('and clears its output', () => {
    const files = [
      { path: 'IPython/__init__.py', content: '' },
      {
        path: 'IPython/display.py',
        content: 'def display(*_): pass\ndef clear_output(wait=False): print("cleared", wait)\n',
      },
    ];
    const begin = 'from IPython.display import clear_output, display\ndisplay("x" * 2_000_000)\n';
    const clear = async (code: string, rest: object = {}) => run(begin + code, { files, ...rest });

    test('keeps only what it displays from then on, and has all the room for it again', async () => {
      const cleared = await clear('for n in range(40): display(n); clear_output()\n"y" * 2_000_000');
      expect(cleared).toMatchObject({ stdout: '', results_omitted: [], error: null });
      expect(cleared.results?.map(({ data }) => data['text/plain'])).toEqual([`'${'y'.repeat(2_000_000)}'`]);
    });

    test('keeps what there is until there is more, where it waits for that', async () => {
      const plain = { 'text/plain': '1' };
      expect(given(await clear('clear_output(wait=True); display(1); display(1)'))).toEqual([
        ['display', plain],
        ['display', plain],
      ]);
      expect((await clear('clear_output(wait=True)')).results).toHaveLength(1);
      expect(given(await clear('for _ in range(40): display(1, clear=True)'))).toEqual([['display', plain]]);
    });

    test('is left to IPython where nobody asks for results', async () => {
      expect((await clear('clear_output(wait=True)', { rich: false })).stdout).toBe('cleared True\n');
    });
  });

  describe('and updates what it displays', () => {
    const plain = (text: string) => ['display', { 'text/plain': text }];

    test('has the last of what was displayed under an id, where the first was, and nothing else of that', async () => {
      const code = `handle = display("x" * 1_900_000, display_id=True)
display(1, display_id="a"); display(2)
for n in range(40): handle.update("y" * 1_900_000)
display(3, display_id="a", update=True)
handle.update(handle.display_id == repr(handle)[26:-1])
display("z" * 1_900_000); display("z" * 1_900_000)`;
      const updated = await run(`${code};`);
      expect(updated).toMatchObject({ results_omitted: [], error: null });
      const z = plain(`'${'z'.repeat(1_900_000)}'`);
      expect(given(updated)).toEqual([plain('True'), plain('3'), plain('2'), z, z]);
    });

    test('displays anew what was cleared meanwhile or is not there, and what is displayed again', async () => {
      const code = `handle = display(1, display_id="a")
display(2, clear=True)
handle.update(3)
handle.display(4)
display(5, display_id="b", update=True)
display(6, update=True);`;
      expect(given(await run(code))).toEqual(['2', '3', '4', '5', '6'].map(plain));
    });

    test('is told of what fails at the line that displays it', async () => {
      const code = `class Bad:\n    def __repr__(self): raise KeyError\nhandle = display(1, display_id=True)\n`;
      for (const line of ['handle.update(Bad())', 'handle.display(Bad())'])
        expect((await run(code + line)).error).toMatchObject({
          name: 'KeyError',
          frames: [{ line: 4, name: '<module>' }, {}, {}, {}, { line: 2, name: '__repr__' }],
        });
    });
  });

  test.each(['include, exclude', 'include=None, exclude=None, **_', ''])(
    'gives the bundle of a value that takes (%s)',
    async (names) => {
      const code = `class Value:\n    def _repr_mimebundle_(${['self', names].filter(Boolean).join(', ')}): return {"text/html": "<b>"}\nValue()`;
      expect((await run(code)).results).toMatchObject([{ data: { 'text/html': '<b>' } }]);
    },
  );

  test('gives what a library calls JSON as JSON, and leaves out what is none', async () => {
    const code = `class Plot:
    def _repr_mimebundle_(self): return {"application/vnd.plot.v1+json": {"data": [1]}, "application/x+json": "{"}
    def __repr__(self): return "plot"
Plot()`;
    expect(await run(code)).toMatchObject({
      results: [{ data: { 'application/vnd.plot.v1+json': { data: [1] }, 'text/plain': 'plot' } }],
      results_omitted: [{ type: 'application/x+json', reason: 'not_json' }],
    });
  });

  test('gives text as text where a value has it as bytes, and nothing where it has None', async () => {
    const code = `class Value:
    def _repr_mimebundle_(self): return {"text/html": "<b>é".encode(), "image/png": b"\\x89", "text/latex": None}
    def _repr_svg_(self): return bytearray(b"<svg/>")
    def _repr_json_(self): return b'{"a": 1}'
    def _repr_latex_(self): return "$x$"
    def _repr_markdown_(self): return b"\\xff"
    def __repr__(self): return "value"
Value()`;
    expect(given(await run(code))?.[0]?.[1]).toEqual({
      'text/html': '<b>é',
      'image/png': 'iQ==',
      'image/svg+xml': '<svg/>',
      'application/json': { a: 1 },
      'text/latex': '$x$',
      'text/markdown': '\ufffd',
      'text/plain': 'value',
    });
  });

  test('awaits at its top level, all of it in one loop', async () => {
    const begin = `from __future__ import annotations
import asyncio
async def later(n: Nothing):
    await asyncio.sleep(0)
    return 6 / n
`;
    const awaited = await run(`${begin}task = asyncio.create_task(later(2))\nawait later(1) + await task`);
    expect(awaited).toMatchObject({ stderr: '', error: null });
    expect(given(awaited)).toEqual([['result', { 'text/plain': '9.0' }]]);
    expect((await run(`${begin}print(await later(3));`)).stdout).toBe('2.0\n');
    const failed = await run(`${begin}await later(0)`);
    expect(failed.error?.frames).toMatchObject([
      { line: 6, name: '<module>' },
      { line: 5, name: 'later' },
    ]);
    expect(failed.stderr).not.toMatch(/podgate|asyncio/);
    expect((await run(`${begin}asyncio.run(later(3))`)).results).toMatchObject([
      { data: { 'text/plain': '2.0' } },
    ]);
    expect((await run(`${begin}await later(1)`, { rich: false })).stderr).toContain(
      "'await' outside function",
    );
  });

  test.each([
    ['!pip install numpy', true],
    ['x = 1\nif x:\n    !unzip 2023data.zip', true],
    ['%matplotlib inline\nimport os', true],
    ['%%time\n6 * 7', true],
    ['files = !ls -la', true],
    ['x = ("a"\n  % + * 3)', false],
    ['"%s" % % 3', false],
  ])('is told what to write in place of IPython’s own syntax: %j', async (code, told) => {
    const { error, stderr } = await run(code);
    expect(error?.name).toBe('SyntaxError');
    for (const text of [error?.value, stderr])
      expect(text?.includes('run commands with subprocess'), text).toBe(told);
  });
});
