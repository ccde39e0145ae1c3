import { expect, test } from 'vitest';
import { MAX_RESULT_DOCUMENT_BYTES } from '../../../shared/result-api.ts';
import { describeSandbox, expectUnharmed, py } from './suite.ts';

describeSandbox('an execution whose results are wanted', (sandbox) => {
  const run = async (code: string) => {
    const ran = await sandbox().run(code, { rich: true });
    return { ran, document: ran.files.get('results')?.toString() ?? 'none' };
  };

  test('sends one document before its files, with its last value or its error', async () => {
    const { ran, document } = await run('open("made", "w").write("x")\nprint("out")\n[6 * 7]');
    expect([...ran.files.keys()]).toEqual(['results', 'made']);
    expect(ran.stdout).toBe('out\n');
    expect(JSON.parse(document)).toEqual({
      results: [{ kind: 'result', data: { 'text/plain': '[42]' } }],
      omitted: [],
      error: null,
    });
    const failed = await run('from __future__ import annotations\ndef f() -> Nothing: return 1 / 0\nf()');
    expect(failed.ran.result).toMatchObject({ outcome: 'exited', exit_code: 1 });
    expect(JSON.parse(failed.document).error).toMatchObject({
      name: 'ZeroDivisionError',
      frames: [
        { line: 3, name: '<module>' },
        { line: 2, name: 'f' },
      ],
    });
    expect(failed.ran.stderr).not.toContain('podgate');
    await expectUnharmed(sandbox());
  });

  test.each([
    ['6 * 7', 1],
    ['print(1); 6 * 7', 1],
    ['";"', 1],
    ['"a"\n";" # ;', 1],
    ['6 * 7;', 0],
    ['"é" "; "  ; # why', 0],
    ['x = 1\r\n(\n  x\n) ;\r\n# end', 0],
    ['def f(): yield 1;\n[*f()];', 0],
  ])('%j gives %d values', async (code, values) => {
    const { ran, document } = await run(code);
    expect([ran.result.exit_code, ran.stderr]).toEqual([0, '']);
    expect(JSON.parse(document).results).toHaveLength(values);
  });

  test.each([
    ['a trace', '__traceback__ = property(odd)'],
    ['a face', '__class__ = property(odd)'],
    ['words that end a program', '__str__ = exit'],
  ])('tells an error that has %s of its own', async (_name, own) => {
    const { ran, document } = await run(
      `import atexit\natexit.register(print, "at exit")\ndef odd(_): raise OSError("odd")\nclass Odd(Exception): ${own}\nraise Odd("x")`,
    );
    expect([ran.result.exit_code, ran.stdout]).toEqual([1, 'at exit\n']);
    expect(JSON.parse(document).error).toMatchObject({
      name: 'Odd',
      frames: [{ line: 5, name: '<module>' }],
    });
    expect(ran.stderr).not.toContain('podgate');
  });

  test('takes what its program wrote in place of the document, which is empty past its bound', async () => {
    const scribble = (bytes: number) => py`
      import os
      for fd in range(3, 64):
          try:
              if "memfd:results" in os.readlink("/proc/self/fd/%d" % fd): os.write(fd, b"x" * ${bytes})
          except OSError: pass
      os._exit(7)
    `;
    const over = await run(scribble(MAX_RESULT_DOCUMENT_BYTES + 1));
    expect(over.ran.result.exit_code).toBe(7);
    expect(over.document).toBe('');
    const most = await run(scribble(MAX_RESULT_DOCUMENT_BYTES));
    expect(most.document).toHaveLength(MAX_RESULT_DOCUMENT_BYTES);
    await expectUnharmed(sandbox());
  });

  test('leaves nothing of itself to the next', async () => {
    await run('1');
    const next = await sandbox().run(
      'import os\nprint(sorted(map(int, os.listdir("/proc/self/fd")))[:3])\n7',
    );
    expect(next.stdout).toBe('[0, 1, 2]\n7\n');
    expect([...next.files.keys()]).toEqual([]);
    await expectUnharmed(sandbox());
  });
});
