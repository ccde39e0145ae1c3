import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { runnerCommand } from '../../../agent/runner/bundle.ts';
import { createRunnerClient } from '../../../agent/runner/client.ts';
import { processesBelow } from '../../fakes/runner-process.ts';
import { runOn } from '../../fakes/runner-run.ts';
import { describePython, MIB, py } from './suite.ts';

const TRIES = 8;

describePython('a runner that is not PID 1', (python) => {
  test('leaves no child of a program alive when it answers while the program is leaving', async () => {
    await using runner = await besideOthers(python);
    for (let n = 1; n <= TRIES; n += 1) {
      const ran = await runOn(
        runner.client,
        n,
        py`
          import os, signal, sys
          child = os.fork()
          if child == 0:
              os.closerange(0, 3)
              signal.pause()
          sys.block = bytearray(b"x") * ${150 * MIB}
          print(child)
        `,
        { collect: false },
      );
      expect(processesBelow(runner.pid).filter(({ pid }) => pid === Number(ran.stdout))).toEqual([]);
    }
  });
});

/** As where an operator gave up namespaces: in those of the test, and a parent to orphans by its own wish. */
async function besideOthers(python: string) {
  const workspace = await mkdtemp(join(tmpdir(), 'podgate-runner-'));
  await chmod(workspace, 0o777);
  const config = {
    languages: ['python'],
    workspace,
    scratch: [],
    place: 'shared',
    cgroup_root: '/nonexistent',
    limits: { memory_bytes: 256 * MIB, cpu_seconds: 20, processes: 64, open_files: 256, file_bytes: MIB },
  };
  const drop =
    process.getuid?.() === 0 ? ['setpriv', '--reuid=65532', '--regid=65532', '--clear-groups'] : [];
  const args = ['-c', 'exec <&3 >&3 3>&-; exec "$@"', 'sh', ...drop, ...runnerCommand({ python, config })];
  const child = spawn('sh', args, { stdio: ['ignore', 'ignore', 'inherit', 'pipe'] });
  const client = createRunnerClient({ stream: child.stdio[3] as Duplex, epoch: 1 });
  await client.ready;
  return {
    pid: child.pid as number,
    client,
    async [Symbol.asyncDispose]() {
      const ended = once(child, 'exit');
      client.close();
      await ended;
      await rm(workspace, { recursive: true });
    },
  };
}
