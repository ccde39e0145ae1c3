import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { sandboxCommand, sandboxSpawnOptions } from '../../agent/backends/local/sandbox-command.ts';
import { runnerConfig } from '../../agent/runner/runner-config.ts';
import { parseTemplate } from '../../shared/template.ts';
import { stackTrouble } from './suite.ts';

const PYTHON = '/usr/bin/python3';

/** The keeper goes on only when PID 1 has changed the root, PID 1 only when the keeper has got past its beginning. */
const WORST_ORDER = `
import os
from podgate_runner import confine, local_sandbox, sandbox_root
def turned_fork(fork=os.fork, root=os.stat("/").st_dev):
    os.fork = fork
    held, go = os.pipe()
    pid = fork()
    if pid:
        while os.stat("/").st_dev == root: pass
        drop = confine.drop_capabilities
        confine.drop_capabilities = lambda: (drop(), os.write(go, b"."))
    else:
        os.close(go)
        directories = sandbox_root._directories
        sandbox_root._directories = lambda prefixes: (os.read(held, 1), directories(prefixes))
    return pid
os.fork = turned_fork
`;

/** What the agent has it do when a sandbox is to end, which may have ended by itself just then. */
const TOLD_TOO_LATE = `
import os, signal
def waited(*given, waitpid=os.waitpid):
    found = waitpid(*given)
    os.kill(os.getpid(), signal.SIGTERM)
    return found
os.waitpid = waited
`;

async function probeWith(prelude: string) {
  const runner = runnerConfig(await parseTemplate({ name: 'probe' }), { place: 'fresh', attach: 'stdio' });
  const { file, args } = sandboxCommand(PYTHON, { runner, parent: process.pid, probe: true });
  const ordered = args.map((each) =>
    each.replace('\nenter(sys.argv[1])', `\n${prelude}\nenter(sys.argv[1])`),
  );
  expect(ordered).not.toEqual(args);
  const user = process.getuid?.() === 0 ? { uid: 65_532, gid: 65_532 } : undefined;
  const { stdout, stderr } = await promisify(execFile)(file, ordered, sandboxSpawnOptions(PYTHON, user));
  return [JSON.parse(stdout), stderr];
}

test.for([
  ['needs nothing of a root that PID 1 has already left', WORST_ORDER],
  ['is told to end when PID 1 has just ended, and says nothing of it', TOLD_TOO_LATE],
] as const)('the keeper of a local sandbox %s', async ([, prelude], context) => {
  const trouble = await stackTrouble();
  context.skip(trouble !== undefined, trouble);
  expect(await probeWith(prelude)).toEqual([expect.objectContaining({ namespaces: true }), '']);
});
