import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PYTHONS } from '../fakes/runner-process.ts';

const RUNNER = fileURLToPath(new URL('../../agent/runner', import.meta.url));

describe.each(PYTHONS)('the process behind a request about files (%s)', (python) => {
  let workspace = '';
  beforeEach(() => {
    workspace = mkdtempSync(join(tmpdir(), 'podgate-files-'));
  });
  afterEach(() => rmSync(workspace, { recursive: true, force: true }));

  /** Serves `asked` in the workspace, behind Python that prepares it or breaks something. */
  function serve(asked: object, before = '') {
    const code = `
import json, os, sys
sys.path.insert(0, ${JSON.stringify(RUNNER)})
sys.dont_write_bytecode = True
from podgate_runner import session_files
${before}
session_files.serve(json.loads(sys.argv[1]))`;
    const { status, stdout, stderr } = spawnSync(python, ['-I', '-c', code, JSON.stringify(asked)], {
      cwd: workspace,
    });
    const end = stdout.indexOf(10);
    const head = end < 0 ? undefined : JSON.parse(stdout.subarray(0, end).toString());
    return { status, head, bytes: stdout.subarray(end + 1).toString('latin1'), stderr: stderr.toString() };
  }

  const READ = { op: 'read', path: 'f', first: 0, last: null };
  const BROKEN_READ = `
open("f", "w").write("x" * 100000)
whole = os.pread
def pread(fd, count, at):
    if at: raise OSError(5, "Input/output error")
    return whole(fd, count, at)
os.pread = pread`;

  test('says by its exit status that a file could not be read to its end', () => {
    const { status, head, bytes } = serve(READ, BROKEN_READ);
    expect([status, head.ok.size, bytes]).toEqual([1, 100_000, 'x'.repeat(65_536)]);
  });

  test.each(['OSError(24, "Too many open files")', 'RecursionError("too deep")'])(
    'says by its exit status that a tree ended early: %s',
    (error) => {
      const broken = `
os.mkdir("d"); os.mkdir("e"); open("d/f", "w").close()
listdir = os.listdir
seen = []
def fail(fd):
    seen.append(fd)
    if len(seen) > 1: raise ${error}
    return listdir(fd)
os.listdir = fail`;
      const { status, head, bytes } = serve({ op: 'pack', path: '' }, broken);
      expect([status, head]).toEqual([1, { ok: {} }]);
      expect(bytes).not.toContain('error');
    },
  );

  test('answers what fails before the facts in words, and ends well', () => {
    const { status, head } = serve(READ);
    expect([status, head]).toEqual([
      0,
      { error: { code: 'not_found', detail: 'No such file or directory' } },
    ]);
  });
});
