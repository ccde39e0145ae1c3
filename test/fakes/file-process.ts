import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const RUNNER = fileURLToPath(new URL('../../agent/runner', import.meta.url));

/** The process behind a request about files, in `workspace`: serves `asked` behind Python that prepares it or breaks something. */
export function serveFiles(
  python: string,
  workspace: string,
  asked: object,
  before = '',
  input = new Uint8Array(0),
) {
  const code = `
import json, os, sys
sys.path.insert(0, ${JSON.stringify(RUNNER)})
sys.dont_write_bytecode = True
from podgate_runner import session_files
${before}
session_files.serve(json.loads(sys.argv[1]))`;
  const { status, stdout, stderr } = spawnSync(python, ['-I', '-c', code, JSON.stringify(asked)], {
    cwd: workspace,
    input,
    maxBuffer: 1 << 30,
  });
  const end = stdout.indexOf(10);
  const head = end < 0 ? undefined : JSON.parse(stdout.subarray(0, end).toString());
  return { status, head, bytes: stdout.subarray(end + 1).toString('latin1'), stderr: stderr.toString() };
}
