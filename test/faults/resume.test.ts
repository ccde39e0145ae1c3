import { createHash } from 'node:crypto';
import { afterEach, expect, test, vi } from 'vitest';
import type { StreamEvent } from '../../client/types.ts';
import type { FleetAgent } from '../fakes/fleet.ts';
import { counted } from '../fakes/run-counter.ts';
import { until } from '../fakes/until.ts';
import { ask, describeFleet } from './suite.ts';

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const digest = (text: string | Uint8Array) => createHash('sha256').update(text).digest('hex');

/** Past the 2.5 s after which a silent link of this fleet is dead. */
const DEAD_MS = 4_000;
/** A wire that is back may be dialled seconds later. */
const PATIENCE_MS = 120_000;
/** After three cuts an agent may wait up to 8 s before it dials, and longer where that fails: the answer has so long. */
const REDIALS_MS = 45_000;
const PARTS = 16;
const PART_LINES = 2_000;
const TOLD_LINES = 500;

/** What `CHATTY` prints: lines of which no two are the same, on both streams in turn. */
function printed(): { stdout: string; stderr: string } {
  const lines = (name: string, part: number, count: number) =>
    Array.from({ length: count }, (_, line) => `${name} ${part} ${line} ${digest(`${part}.${line}`)}\n`).join(
      '',
    );
  const parts = Array.from({ length: PARTS }, (_, part) => part);
  return {
    stdout: parts.map((part) => lines('out', part, PART_LINES)).join(''),
    stderr: parts.map((part) => lines('err', part, TOLD_LINES)).join(''),
  };
}
const PRINTED = printed();
const CHATTY = `
import hashlib, sys, time
def lines(name, part, count):
    return ''.join(f'{name} {part} {line} {hashlib.sha256(f"{part}.{line}".encode()).hexdigest()}\\n' for line in range(count))
for part in range(${PARTS}):
    sys.stdout.write(lines('out', part, ${PART_LINES}))
    sys.stderr.write(lines('err', part, ${TOLD_LINES}))
    time.sleep(0.05)
`;
const FILE_BYTES = 6_000_000;
const WRITES_FILES = `
import random
for name in ('first.bin', 'second.bin'):
    with open(name, 'wb') as file: file.write(random.Random(name).randbytes(${FILE_BYTES}))
open('empty', 'w').close()
import hashlib
print(*(hashlib.sha256(open(name, 'rb').read()).hexdigest() for name in ('first.bin', 'second.bin')))
`;

describeFleet(
  'A link lost while running costs nothing:',
  {
    gateways: 1,
    agents: [{ cluster: 'lab' }],
    tls: true,
    templates: [{ name: 'default', pool: { min: 1, max: 2 } }],
    variables: { PODGATE_HEARTBEAT_MS: '1000', MAX_OUTPUT_BYTES: '64000000' },
  },
  (fleet) => {
    vi.setConfig({ testTimeout: PATIENCE_MS });
    const lab = () => fleet().agents[0] as FleetAgent;
    const wire = () => lab().wire;

    // An agent whose links were lost often comes back later each time: each test has one that has lost none.
    afterEach(async () => {
      wire().stall(false);
      wire().setRate(Number.POSITIVE_INFINITY);
      lab().kill('SIGTERM');
      await lab().ended();
      await fleet().ready();
    }, PATIENCE_MS);

    /** Reads a stream to its end; `at` is told how many characters have come. */
    async function read(code: string, at: (chars: number) => void) {
      const name = crypto.randomUUID();
      const text = { stdout: '', stderr: '' };
      let last: StreamEvent | undefined;
      const request = {
        code: counted(fleet().counter.at, name) + code,
        timeout_ms: 30_000,
        queue_timeout_ms: REDIALS_MS,
      };
      for await (const event of fleet().client().stream(request)) {
        last = event;
        if (event.type === 'output') text[event.stream] += event.data;
        at(text.stdout.length + text.stderr.length);
      }
      return { text, last, runs: fleet().counter.count(name) };
    }

    async function expectWhole(faults: readonly { atChars: number; act: () => void }[]) {
      const left = [...faults];
      const { text, last, runs } = await read(CHATTY, (chars) => {
        while (left[0] && chars >= left[0].atChars) left.shift()?.act();
      });
      expect(left).toEqual([]);
      expect(last).toMatchObject({
        type: 'result',
        outcome: 'exited',
        exit_code: 0,
        stdout_truncated: false,
      });
      expect([digest(text.stdout), digest(text.stderr)]).toEqual([
        digest(PRINTED.stdout),
        digest(PRINTED.stderr),
      ]);
      expect(last).toMatchObject({
        stdout_bytes: PRINTED.stdout.length,
        stderr_bytes: PRINTED.stderr.length,
      });
      expect(runs).toBe(1);
    }

    test.for([
      ['is cut, its sister alive', () => wire().cut(1)],
      ['is cut, its sister too', () => wire().cut()],
      ['only the agent knows is gone', () => wire().halfOpen('dialler')],
      ['only the gateway knows is gone', () => wire().halfOpen('target')],
      ['corrupts', () => wire().corrupt(1)],
    ] as const)('a link that %s in the middle of the output is not seen in it', async ([, act]) => {
      await expectWhole([{ atChars: 1_000_000, act }]);
    });

    test.for([
      ['both directions', undefined],
      ['what the agent says', 'up'],
    ] as const)(
      'a wire that stalls %s until its links are dead is not seen in the output',
      async ([, direction]) => {
        await expectWhole([
          {
            atChars: 1_000_000,
            act: () => {
              wire().stall(true, direction);
              setTimeout(() => {
                wire().cut();
                wire().stall(false);
              }, DEAD_MS);
            },
          },
        ]);
      },
    );

    test.for([
      ['goes on', 1_000, () => wire().stall(false)],
      ['is cut', 0, () => wire().cut()],
      ['is silent until its links are dead', DEAD_MS, () => wire().cut()],
    ] as const)(
      'a wire that stops in the middle of a frame and then %s is not seen in the output',
      async ([, afterMs, act]) => {
        let stopped: Promise<void> | undefined;
        const stop = async () => {
          await wire().stallInside('up');
          await pause(afterMs);
          act();
          wire().stall(false);
        };
        const isStopped = () => {
          stopped = stop();
        };
        await expectWhole([{ atChars: 1_000_000, act: isStopped }]);
        await stopped;
      },
    );

    test.for([
      ['goes on', () => {}],
      ['is cut', () => wire().cut()],
    ] as const)(
      'a wire that stops in the middle of a frame of files and then %s runs the program once, with all of them',
      async ([, act]) => {
        const content = 'x'.repeat(3_000_000);
        const stopped = wire().stallInside('down');
        const asked = ask(fleet(), 'print(len(open("big.txt").read()))', {
          timeout_ms: 10_000,
          queue_timeout_ms: 20_000,
          files: [{ path: 'big.txt', content }],
        });
        await stopped;
        expect(asked.runs()).toBe(0);
        act();
        wire().stall(false);
        const { status, body } = await asked.answer;
        expect([status, body.stdout, asked.runs()]).toEqual([200, `${content.length}\n`, 1]);
      },
    );

    test('several cuts in one execution are not seen in its output', async () => {
      const act = () => wire().cut();
      await expectWhole([300_000, 1_200_000, 2_500_000].map((atChars) => ({ atChars, act })));
    });

    test('a cut before STARTED runs the program once', async () => {
      const asked = ask(fleet(), 'import time; time.sleep(0.3); print("once")', { timeout_ms: 10_000 });
      wire().stall(true, 'up');
      await until(() => asked.runs() === 1);
      wire().cut();
      wire().stall(false);
      const { status, body } = await asked.answer;
      expect([status, body.stdout, asked.runs()]).toEqual([200, 'once\n', 1]);
    });

    test('a cut while files come up runs the program once, with all of them', async () => {
      const content = 'x'.repeat(3_000_000);
      wire().setRate(1_000_000);
      const asked = ask(fleet(), 'print(len(open("big.txt").read()))', {
        timeout_ms: 10_000,
        queue_timeout_ms: 20_000,
        files: [{ path: 'big.txt', content }],
      });
      await pause(1_000);
      wire().cut();
      wire().setRate(Number.POSITIVE_INFINITY);
      const { status, body } = await asked.answer;
      expect([status, body.stdout, asked.runs()]).toEqual([200, `${content.length}\n`, 1]);
    });

    test('a cut at EXIT brings the result all the same', async () => {
      const asked = ask(fleet(), `import time; time.sleep(0.5); print("x" * 500_000)`, {
        timeout_ms: 10_000,
      });
      await until(() => asked.runs() === 1);
      wire().stall(true, 'up');
      await pause(1_000);
      wire().cut();
      wire().stall(false);
      const { status, body } = await asked.answer;
      expect([status, digest(body.stdout), asked.runs()]).toEqual([
        200,
        digest(`${'x'.repeat(500_000)}\n`),
        1,
      ]);
    });

    test('cuts while files go down leave them whole, each there once', async () => {
      wire().setRate(4_000_000);
      const asked = ask(fleet(), WRITES_FILES, { timeout_ms: 10_000, queue_timeout_ms: REDIALS_MS });
      await until(() => asked.runs() === 1);
      for (let cuts = 0; cuts < 3; cuts += 1) {
        await pause(700);
        wire().cut();
      }
      wire().setRate(Number.POSITIVE_INFINITY);
      const { status, body } = await asked.answer;
      expect([status, body.code, body.detail, body.files_omitted, asked.runs()]).toEqual([
        200,
        undefined,
        undefined,
        [],
        1,
      ]);
      const byPath = new Map(body.files.map(({ path, file_id }) => [path, file_id]));
      expect([...byPath.keys()].sort()).toEqual(['empty', 'first.bin', 'second.bin']);
      expect(body.files).toHaveLength(3);
      const digests = [];
      for (const name of ['first.bin', 'second.bin']) {
        const { body: content } = await fleet()
          .client()
          .files.download(byPath.get(name) as string);
        digests.push(digest(new Uint8Array(await new Response(content).arrayBuffer())));
      }
      expect(digests.join(' ')).toBe(body.stdout.trim());
    });
  },
);
