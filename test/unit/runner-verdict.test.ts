import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { PYTHONS } from '../fakes/runner-process.ts';

const RUNNER = fileURLToPath(new URL('../../agent/runner', import.meta.url));
const CPU_LIMIT = 5;
const EXITED_WITH_3 = 3 << 8;
const [KILL, SEGV, TERM, XCPU] = [9, 11, 15, 24];

/** What was seen of a program: how the kernel says that it ended, what we killed it for, what it used, what the kernel killed. */
type Seen = { status: number; killedFor?: string; cpu?: number; oom?: boolean };

const CASES: [title: string, seen: Seen, verdict: [string, number | null, number | null]][] = [
  ['ended', { status: EXITED_WITH_3 }, ['exited', 3, null]],
  ['ended as its time was up', { status: EXITED_WITH_3, killedFor: 'timed_out' }, ['exited', 3, null]],
  ['was killed at its time', { status: KILL, killedFor: 'timed_out' }, ['timed_out', null, KILL]],
  ['was killed as its caller left', { status: KILL, killedFor: 'cancelled' }, ['cancelled', null, KILL]],
  ['crashed as its time was up', { status: SEGV, killedFor: 'timed_out' }, ['signaled', 139, SEGV]],
  ['crashed as its caller left', { status: SEGV, killedFor: 'cancelled' }, ['signaled', 139, SEGV]],
  ['was killed for its output', { status: KILL, killedFor: 'output_limit' }, ['output_limit', 137, KILL]],
  ['crashed past its output', { status: SEGV, killedFor: 'output_limit' }, ['signaled', 139, SEGV]],
  ['was killed for its memory', { status: KILL, killedFor: 'memory_limit' }, ['memory_limit', 137, KILL]],
  ['crashed past its memory', { status: SEGV, killedFor: 'memory_limit' }, ['signaled', 139, SEGV]],
  ['heeded its warning', { status: XCPU, killedFor: 'cpu_limit', cpu: 5 }, ['cpu_limit', 152, XCPU]],
  ['was killed past its warning', { status: KILL, killedFor: 'cpu_limit', cpu: 6 }, ['cpu_limit', 137, KILL]],
  [
    'ended another way when warned',
    { status: TERM, killedFor: 'cpu_limit', cpu: 5 },
    ['signaled', 143, TERM],
  ],
  ['was warned by a kernel that counts ticks', { status: XCPU, cpu: 2.5 }, ['cpu_limit', 152, XCPU]],
  ['warned itself', { status: XCPU, cpu: 2.4 }, ['signaled', 152, XCPU]],
  ['was killed by the kernel for its time', { status: KILL, cpu: 5 }, ['cpu_limit', 137, KILL]],
  ['was killed by somebody', { status: KILL, cpu: 4.9 }, ['signaled', 137, KILL]],
  ['was killed by the kernel for memory', { status: KILL, oom: true }, ['memory_limit', 137, KILL]],
  ['was killed by both', { status: KILL, killedFor: 'timed_out', oom: true }, ['timed_out', null, KILL]],
  ['crashed beside one that was', { status: SEGV, oom: true }, ['signaled', 139, SEGV]],
];

describe.each(PYTHONS)('the verdict on a program (%s)', (python) => {
  const code = `
import json, sys
sys.path.insert(0, ${JSON.stringify(RUNNER)})
sys.dont_write_bytecode = True
from podgate_runner.verdict import judge
print(json.dumps([judge(seen["status"], seen.get("killedFor"), seen.get("cpu", 0.1), ${CPU_LIMIT}, lambda: seen.get("oom", False))
    for seen in json.loads(sys.argv[1])]))`;
  const asked = JSON.stringify(CASES.map(([, seen]) => seen));
  const verdicts = JSON.parse(execFileSync(python, ['-I', '-c', code, asked]).toString());

  test.each(CASES.map(([title, , verdict], index) => [title, verdict, index] as const))(
    'that %s is %j: its own end is told from ours',
    (_title, verdict, index) => expect(verdicts[index]).toEqual(verdict),
  );
});
