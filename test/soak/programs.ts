import { createHash } from 'node:crypto';
import type { ExecuteRequest } from '../../client/types.ts';
import type { Random } from './random.ts';

/** How the reader behaves. */
export type Reading =
  | { as: 'json' }
  | { as: 'stream' }
  /** Takes nothing for a while after the first output. */
  | { as: 'slow'; pauseMs: number }
  /** Goes away. */
  | { as: 'leaver'; afterMs: number }
  /** Goes away from what goes on without it, and reads the rest later. */
  | { as: 'detached'; afterMs: number }
  /** Asks under a key, goes away if so, and asks again while it runs, and when it is over. */
  | { as: 'keyed'; streamed: boolean; leavesMs: number | undefined; afterMs: number };

/** A program, who asks for it and what must come of it. */
export type Program = {
  readonly kind: Kind;
  readonly request: ExecuteRequest;
  readonly reading: Reading;
  /** Digests of stdout and stderr. Null: whatever came before the end. */
  readonly output: { readonly stdout: string; readonly stderr: string } | null;
  readonly exitCode: number | null;
  readonly outcome: 'exited' | 'signaled' | 'timed_out';
};

const WEIGHTS = {
  short: 58,
  fresh: 3,
  sleeper: 7,
  streamed: 8,
  talker: 6,
  echo: 5,
  bulk: 1.5,
  slow_reader: 0.5,
  stalled_reader: 0.05,
  truncated: 1,
  fails: 2,
  killed: 1,
  times_out: 2,
  leaver: 3,
  detached: 4,
  keyed: 3,
} as const;
export type Kind = keyof typeof WEIGHTS;

const TIMEOUT_MS = 25_000;
/** Each 256 KiB of a stream make a round trip through all processes: on a busy machine that takes a second. */
const BULK_TIMEOUT_MS = 60_000;
const QUEUE_TIMEOUT_MS = 15_000;
/** What may be answered behind the program's time and its wait. */
const GRACE_MS = 3_000;
const SHORT_TIMEOUT_MS = 300;
/** Above what a reader may take nothing for. */
const STALL_MS = 18_000;
const BULK = { timeout_ms: BULK_TIMEOUT_MS };
const MARKER = '\n...[truncated]';
/** Of those who ask under a key. */
const LEAVES_SHARE = 0.3;
const STREAMS = ['stdout', 'stderr'] as const;

/** One stream's output: numbered blocks, so that what is missing, twice or out of place changes its digest. */
type Output = { label: string; blocks: number; size: number };

/** What the n-th program of a caller is: the same for the same seed. `name` is in all its output. */
export function drawProgram(random: Random, name: string): Program {
  return make(random.weighted(WEIGHTS), random, name);
}

function make(kind: Kind, random: Random, name: string): Program {
  const printing = (blocks: number, size: number, pauseMs = 0) => {
    const outputs = STREAMS.map((label) => ({ label: `${name}.${label}.`, blocks, size })) as [
      Output,
      Output,
    ];
    return {
      code: printCode(outputs, pauseMs),
      output: { stdout: digestOf(outputs[0]), stderr: digestOf(outputs[1]) },
    };
  };
  const small = () => printing(1, random.between(16, 4_000));
  const base = { kind, exitCode: 0, outcome: 'exited' } as const;
  const plain = (
    { code, output }: { code: string; output: Program['output'] },
    reading: Reading,
    rest: Partial<ExecuteRequest> = {},
  ): Program => ({ ...base, output, reading, request: requestOf(code, rest) });

  switch (kind) {
    case 'short':
      return plain(small(), { as: 'json' });
    case 'fresh':
      return plain(small(), { as: 'json' }, { template: 'fresh' });
    case 'sleeper': {
      const { code, output } = small();
      const sleepS = random.between(100, 2_500) / 1_000;
      return plain({ code: `import time; time.sleep(${sleepS})\n${code}`, output }, { as: 'json' });
    }
    case 'streamed':
      return plain(small(), { as: 'stream' });
    case 'talker':
      return plain(printing(random.between(3, 20), random.between(16, 9_000), random.between(5, 120)), {
        as: 'stream',
      });
    case 'echo':
      return echo(base, random, name);
    case 'detached':
      return plain(
        printing(random.between(5, 25), random.between(16, 8_000), random.between(10, 120)),
        { as: 'detached', afterMs: random.between(0, 1_500) },
        BULK,
      );
    case 'keyed': {
      const leavesMs = random.next() < LEAVES_SHARE ? random.between(0, 800) : undefined;
      const reading = {
        as: 'keyed',
        streamed: random.next() < 0.5,
        leavesMs,
        afterMs: random.between(0, 1_000),
      } as const;
      return plain(
        printing(random.between(1, 12), random.between(16, 6_000), random.between(0, 150)),
        reading,
      );
    }
    case 'bulk':
      return plain(printing(random.between(6, 24), 65_536), { as: 'stream' }, BULK);
    case 'slow_reader':
      return plain(
        printing(random.between(12, 40), 65_536),
        { as: 'slow', pauseMs: random.between(500, 4_000) },
        BULK,
      );
    case 'stalled_reader':
      return plain(printing(800, 65_536), { as: 'slow', pauseMs: STALL_MS }, BULK);
    case 'truncated':
      return truncated(base, random, name);
    case 'fails': {
      const { code, output } = small();
      return { ...plain({ code: `${code}\nraise SystemExit(3)`, output }, { as: 'json' }), exitCode: 3 };
    }
    case 'killed': {
      const { code, output } = small();
      const request = plain({ code: `${code}\nos.kill(os.getpid(), 9)`, output }, { as: 'json' });
      return { ...request, exitCode: 137, outcome: 'signaled' };
    }
    case 'times_out': {
      const request = plain({ code: 'import time; time.sleep(60)', output: null }, { as: 'json' });
      return {
        ...request,
        request: { ...request.request, timeout_ms: SHORT_TIMEOUT_MS },
        exitCode: null,
        outcome: 'timed_out',
      };
    }
    case 'leaver': {
      const code = 'import subprocess, time; subprocess.Popen(["sleep", "61"]); time.sleep(60)';
      return plain({ code, output: null }, { as: 'leaver', afterMs: random.between(0, 1_500) });
    }
  }
}

type Base = { kind: Kind; exitCode: 0; outcome: 'exited' };

/** Input that comes back: by stdin, as a file and in the environment. */
function echo(base: Base, random: Random, name: string): Program {
  const stdin = filled(`${name}.in.`, random.between(1, 200_000));
  const content = filled(`${name}.file.`, random.between(0, 100_000));
  const code =
    'import os, sys\nsys.stderr.write(open("a/b.txt").read() + os.environ["SOAK"])\n_ = sys.stdout.write(sys.stdin.read())';
  const request = requestOf(code, { stdin, files: [{ path: 'a/b.txt', content }], env: { SOAK: name } });
  const output = { stdout: sha256(stdin), stderr: sha256(content + name) };
  return { ...base, request, reading: { as: 'json' }, output };
}

/** More than its cap: what comes is the beginning and the marker. */
function truncated(base: Base, random: Random, name: string): Program {
  const cap = random.between(100, 20_000);
  const outputs = STREAMS.map((label) => ({ label: `${name}.${label}.`, blocks: 4, size: cap })) as [
    Output,
    Output,
  ];
  const cut = (output: Output) => sha256(textOf(output).slice(0, cap - MARKER.length) + MARKER);
  return {
    ...base,
    request: requestOf(printCode(outputs, 0), { limits: { max_output_bytes: cap } }),
    reading: { as: 'json' },
    output: { stdout: cut(outputs[0]), stderr: cut(outputs[1]) },
  };
}

/** When a gateway's answer to a program is due at the latest. */
export function answerMs({ request: { timeout_ms = 0, queue_timeout_ms = 0 } }: Program): number {
  return timeout_ms + queue_timeout_ms + GRACE_MS;
}

/** When its caller has all of it, after which it is late. */
export function dueMs(program: Program): number {
  const { reading } = program;
  return answerMs(program) + (reading.as === 'slow' ? reading.pauseMs : 0);
}

function requestOf(code: string, rest: Partial<ExecuteRequest>): ExecuteRequest {
  return { code, timeout_ms: TIMEOUT_MS, queue_timeout_ms: QUEUE_TIMEOUT_MS, ...rest };
}

function printCode([stdout, stderr]: readonly [Output, Output], pauseMs: number): string {
  const { blocks, size } = stdout;
  return `
import os, time
def _fill(label):
    return (label * (${size} // len(label) + 1))[:${size} - 16]
_bodies = (1, _fill(${JSON.stringify(stdout.label)}.encode())), (2, _fill(${JSON.stringify(stderr.label)}.encode()))
for _block in range(${blocks}):
    for _stream, _body in _bodies:
        _data = memoryview(b"%016x" % _block + _body)
        while _data:
            _data = _data[os.write(_stream, _data):]
    time.sleep(${pauseMs / 1_000})
`;
}

function filled(label: string, size: number): string {
  return label.repeat(Math.floor(size / label.length) + 1).slice(0, size);
}

function* blocksOf({ label, blocks, size }: Output): Generator<string> {
  const body = filled(label, size - 16);
  for (let block = 0; block < blocks; block += 1) yield block.toString(16).padStart(16, '0') + body;
}

function textOf(output: Output): string {
  return [...blocksOf(output)].join('');
}

function digestOf(output: Output): string {
  const hash = createHash('sha256');
  for (const block of blocksOf(output)) hash.update(block);
  return hash.digest('hex');
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
