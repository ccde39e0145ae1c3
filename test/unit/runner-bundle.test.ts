import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { MAX_LOADER_BYTES, runnerCommand, runnerLoader, shimCommand } from '../../agent/runner/bundle.ts';
import { PYTHONS } from '../fakes/runner-process.ts';

/** Linux: one argument of execve, its closing NUL included. */
const MAX_ARG_STRLEN = 131_072;

describe('the loader', () => {
  test('fits one argument of a command with room to spare', () => {
    expect(Buffer.byteLength(runnerLoader())).toBeLessThan(MAX_LOADER_BYTES);
    expect(MAX_LOADER_BYTES).toBeLessThan(MAX_ARG_STRLEN);
  });

  test('is made once and is the same text every time', () => {
    expect(runnerLoader()).toBe(runnerLoader());
    expect(runnerLoader('local')).not.toBe(runnerLoader());
  });

  test('stands in the command as the protocol says', () => {
    const config = { languages: ['python'] };
    expect(runnerCommand({ python: '/p', config })).toEqual([
      '/p',
      '-I',
      '-S',
      '-c',
      runnerLoader(),
      '{"languages":["python"]}',
    ]);
    expect(runnerCommand({ python: '/p', config, entry: 'local' })[4]).toBe(runnerLoader('local'));
  });

  test('of an argument at the limit is taken by the kernel, and one past it is not', () => {
    const run = (size: number) => execFileSync('/bin/true', ['x'.repeat(size)]);
    run(MAX_ARG_STRLEN - 1);
    expect(() => run(MAX_ARG_STRLEN)).toThrow('E2BIG');
  });

  test.each(PYTHONS)('finds every module of the runner, and nothing on a disk (%s)', (python) => {
    const names = readdirSync(new URL('../../agent/runner/podgate_runner/', import.meta.url))
      .filter((name) => name.endsWith('.py') && name !== '__init__.py')
      .map((name) => `podgate_runner.${name.slice(0, -3)}`);
    const loader = runnerLoader().split('\n').slice(0, -2).join('\n');
    const code = `${loader}
import importlib
for name in ${JSON.stringify(names)}:
    module = importlib.import_module(name)
    assert module.__spec__.loader is sys.meta_path[0], name
print(sys.modules['podgate_runner'].__path__, len([n for n in sys.modules if n.startswith('podgate_runner.')]))`;
    const printed = execFileSync(python, ['-I', '-S', '-c', code], { encoding: 'utf8', cwd: '/' });
    expect(printed).toBe(`[] ${names.length}\n`);
  });

  test.each(PYTHONS)('brings every module as it stands, line by line, but for its prose (%s)', (python) => {
    const folder = new URL('../../agent/runner/podgate_runner/', import.meta.url).pathname;
    const loader = runnerLoader().split('\n').slice(0, -2).join('\n');
    const code = `${loader}
import ast, os
prose = 0
def tree(text):
    parsed = ast.parse(text)
    ends = []
    for node in ast.walk(parsed):
        body = getattr(node, 'body', None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and body and isinstance(body[0], ast.Expr):
            said = body[0].value
            if isinstance(said, ast.Constant) and isinstance(said.value, str):
                ends.append((said.end_lineno, said.end_col_offset))
                said.value = ''
    for node in ast.walk(parsed):
        if (getattr(node, 'end_lineno', 0), getattr(node, 'end_col_offset', 0)) in ends: node.end_lineno = node.end_col_offset = 0
    return ast.dump(parsed, include_attributes=True)
for name, text in sys.meta_path[0].sources.items():
    _, _, stem = name.partition('.')
    with open(os.path.join(${JSON.stringify(folder)}, (stem or '__init__') + '.py'), encoding='utf-8') as file: source = file.read()
    assert tree(text) == tree(source), name
    prose += len(source) - len(text)
print(prose > 50_000)`;
    expect(execFileSync(python, ['-I', '-S', '-c', code], { encoding: 'utf8', cwd: '/' })).toBe('True\n');
  });
});

describe('the shim', () => {
  test('is its one module and needs nothing of the rest', () => {
    const [, , , , text] = shimCommand('/p');
    expect(text).toContain('def main(');
    expect(text).not.toMatch(/from podgate_runner|import podgate_runner/);
    expect(Buffer.byteLength(text as string)).toBeLessThan(4_096);
  });

  test('imports little', () => {
    const [, , , , text] = shimCommand('/p') as [string, string, string, string, string];
    const source = readFileSync(
      new URL('../../agent/runner/podgate_runner/shim.py', import.meta.url),
      'utf8',
    );
    expect(text.startsWith(source)).toBe(true);
    expect([...source.matchAll(/^\s*(?:import|from) (\w+)/gm)].map((match) => match[1])).not.toContain(
      'subprocess',
    );
  });
});
