import { expect, test } from 'vitest';
import { createFrameWriter } from '../../../agent/runner/frame-stream.ts';
import type { RunnerExecution } from '../../../agent/runner/runner-execution.ts';
import type { Frame } from '../../../shared/frame.ts';
import { TYPE } from '../../../shared/frame-type.ts';
import { MAX_CONTROL_BYTES, STREAM_WINDOW_BYTES } from '../../../shared/limits.ts';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import type { Ran } from '../../fakes/runner-run.ts';
import { describePython, describeSandbox, expectNext, expectUnharmed, MIB, patience, py } from './suite.ts';

const json = (body: unknown) => Buffer.from(JSON.stringify(body));

describeSandbox('over a held stream', (sandbox) => {
  test('a second START is busy and harms nothing', async () => {
    let second: Promise<Ran> | undefined;
    const first = await sandbox().run('print("first")\nimport time; time.sleep(60)', {
      onData: (execution, { stdout }) => {
        if (stdout !== 'first\n') return;
        second = sandbox()
          .run('print("second")')
          .finally(() => execution.cancel('enough'));
      },
    });
    expect((await second)?.exit).toMatchObject({ result: null, failure: { code: 'busy', started: 'no' } });
    expect(first.stdout).toBe('first\n');
    expect(first.result.outcome).toBe('cancelled');
    await expectNext(sandbox());
  });

  test('PING is answered while a program runs, and counts its processes', async () => {
    const idle = await sandbox().client.ping(patience());
    let busy = idle;
    const ran = await sandbox().run(
      'import subprocess\nsubprocess.run(["sh", "-c", "echo up; sleep 60; true"])',
      {
        onData: async (execution) => {
          busy = await sandbox().client.ping(patience());
          execution.cancel('seen');
        },
      },
    );
    expect(ran.result.outcome).toBe('cancelled');
    expect(busy.processes).toBeGreaterThan(idle.processes);
    expect(await sandbox().client.ping(patience())).toMatchObject({ processes: idle.processes });
  });

  test('a hundred executions follow each other', async () => {
    for (let n = 0; n < 100; n += 1) expect((await sandbox().run(`print(${n})`)).stdout).toBe(`${n}\n`);
    await expectUnharmed(sandbox());
  });

  test('a reader that comes late after the end gets everything', async () => {
    let execution: RunnerExecution | undefined;
    const running = sandbox().run('import sys\nsys.stdout.write("x" * 300_000)\nNone', {
      grant: STREAM_WINDOW_BYTES,
      onExecution: (started) => {
        execution = started;
      },
      onStarted: async () => {
        // The program itself ends: what it printed past the window fits the pipe and the runner.
        while (sandbox().strays().length > 0) await sandbox().client.ping(patience());
        await new Promise((resolve) => setTimeout(resolve, 3_000));
        execution?.window(MIB);
      },
    });
    const ran = await running;
    expect(ran.stdout).toHaveLength(300_000);
    expect(ran.result).toMatchObject({ stdout_bytes: 300_000, stdout_truncated: false });
  });
});

describePython('a runner on its own streams', (python) => {
  test('works through plain pipes', async () => {
    await using sandbox = await createSandbox({ python, pipes: true });
    const ran = await sandbox.run(
      'import sys\nprint(len(sys.stdin.read()))\nsys.stdout.write("x" * 500_000)\nNone',
      {
        stdin: Buffer.alloc(MIB, 'y'),
        files: { big: Buffer.alloc(2 * MIB) },
      },
    );
    expect(ran.stdout).toHaveLength(500_000 + 8);
    await expectUnharmed(sandbox);
  });

  test('says nothing before it is spoken to', async () => {
    let early = 0;
    await using sandbox = await createSandbox({
      python,
      beforeAttach: async (stream, pid) => {
        stream.on('data', (chunk: Buffer) => {
          early += chunk.byteLength;
        });
        // Until the zygote sleeps: it is warm, and READY could be sent.
        await sleepsBelow(pid);
        stream.removeAllListeners('data');
      },
    });
    expect(early).toBe(0);
    expect(sandbox.ready.ok).toBe(true);
  });

  test('ends when it has been alone for idle_exit_seconds', async () => {
    await using sandbox = await createSandbox({ python, config: { idle_exit_seconds: 1 } });
    expect((await sandbox.run('print(1)')).stdout).toBe('1\n');
    sandbox.client.close();
    await sandbox.exited;
  });
});

/** Runs on epoch after epoch: each stream through a process that enters the sandbox from outside. */
describePython('a runner that waits for streams', (python) => {
  const create = () => createSandbox({ python, config: { attach: 'socket' } });

  test('is reached from outside', async () => {
    await using sandbox = await create();
    expect(sandbox.ready).toMatchObject({ ok: true, epoch: 1 });
    const ran = await sandbox.run('print(1)');
    expect(ran.stdout).toBe('1\n');
    await expectUnharmed(sandbox);
  });

  test('gives a newer stream the place of the old one, between executions', async () => {
    await using sandbox = await create();
    const first = sandbox.client;
    await sandbox.run('x = 1');
    const second = sandbox.attach(2);
    expect(await second.ready).toMatchObject({ ok: true, epoch: 2, running: [] });
    expect(await first.closed).toMatchObject({ code: 'sandbox_lost' });
    await expectUnharmed(sandbox);
  });

  test('goes on with an execution when its stream is replaced, and says no byte twice', async () => {
    await using sandbox = await create();
    const ran = await sandbox.run(
      py`
        import os
        for n in range(150_000): os.write(1, b"%07d\n" % n) if n % 1000 == 0 else None
        lines = b"".join(b"%07d\n" % n for n in range(200_000))
        while lines: lines = lines[os.write(1, lines[:65536]):]
        open("out.txt", "w").write("done")
        None
      `,
      {
        grant: STREAM_WINDOW_BYTES,
        maxOutputBytes: 4 * MIB,
        onData: (_execution, { received }) => {
          if (received[1] === STREAM_WINDOW_BYTES) sandbox.client.close();
        },
        onLost: (checkpoint, handlers) => {
          const [execution] = sandbox.attach(2, [{ checkpoint, handlers }]).resumed;
          execution?.window(64 * MIB);
          return execution as RunnerExecution;
        },
      },
    );
    const head = Array.from({ length: 150 }, (_, n) => `${String(n * 1000).padStart(7, '0')}\n`);
    const tail = Array.from({ length: 200_000 }, (_, n) => `${String(n).padStart(7, '0')}\n`);
    expect(ran.stdout).toBe([...head, ...tail].join(''));
    expect([...ran.files.keys()]).toEqual(['out.txt']);
    expect(ran.result).toMatchObject({ exit_code: 0, stdout_truncated: false });
    expect(sandbox.ready).toMatchObject({ epoch: 2, running: [1] });
    await expectUnharmed(sandbox);
  });

  test('sends again what a lost stream swallowed', async () => {
    await using sandbox = await create();
    const ran = await sandbox.run(
      'import sys\nsys.stdout.write("".join(f"{n:06}\\n" for n in range(30_000)))\nNone',
      {
        onStarted: () => sandbox.client.close(),
        onLost: (checkpoint, handlers) => {
          // As if nothing had come but STARTED: all of it is asked for again.
          return sandbox.attach(2, [{ checkpoint, handlers }]).resumed[0] as RunnerExecution;
        },
      },
    );
    expect(ran.stdout).toBe(
      Array.from({ length: 30_000 }, (_, n) => `${String(n).padStart(6, '0')}\n`).join(''),
    );
    await expectUnharmed(sandbox);
  });

  test.each([
    ['START', (_execution: RunnerExecution, sandbox: Sandbox) => sandbox.client.close()],
    [
      'a part of the input',
      async (_execution: RunnerExecution, sandbox: Sandbox) => {
        const { client } = sandbox;
        await client.ping(patience());
        client.close();
      },
    ],
  ])('says that nothing ran where %s was lost with a stream', async (_what, lose) => {
    await using sandbox = await create();
    const ran = await sandbox.run('print("ran")', {
      files: { big: Buffer.alloc(40 * MIB) },
      onExecution: (execution) => void lose(execution, sandbox),
      onLost: (checkpoint, handlers) => {
        return sandbox.attach(2, [{ checkpoint, handlers }]).resumed[0] as RunnerExecution;
      },
    });
    expect(ran.started).toBe(false);
    expect(ran.exit).toMatchObject({ result: null, failure: { code: 'sandbox_lost', started: 'no' } });
    await expectUnharmed(sandbox);
  });

  test('keeps the end of an execution for whoever attaches next', async () => {
    await using sandbox = await create();
    const ran = await sandbox.run('import time\nprint("up")\ntime.sleep(0.3)\nprint("over")', {
      onData: (_execution, { stdout }) => {
        if (stdout === 'up\n') sandbox.client.close();
      },
      onLost: (checkpoint, handlers) => {
        let next: RunnerExecution | undefined;
        const resume = async () => {
          while (sandbox.strays().length > 0) await new Promise((resolve) => setImmediate(resolve));
          [next] = sandbox.attach(2, [{ checkpoint, handlers }]).resumed;
        };
        void resume();
        return {
          write: () => {},
          endInput: () => {},
          signal: () => {},
          resize: () => {},
          window: (limit) => next?.window(limit),
          cancel: () => {},
          checkpoint: () => checkpoint,
        };
      },
    });
    expect(ran.stdout).toBe('up\nover\n');
    expect(ran.result.exit_code).toBe(0);
    await expectNext(sandbox);
  });

  // Asks fifty times, with descriptors and the first words of an agent, and tells whether anybody ever answered.
  const ask = py`
    import array, os, socket, struct
    body = b'{"epoch":9,"offsets":{}}'
    frame = struct.pack(">IIBBBBIQ", len(body), 9, 1, 0x40, 0, 0, 0, 1) + body
    answers = []
    for n in range(50):
        ours, theirs = socket.socketpair()
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        try:
            client.connect("\0podgate-runner")
            client.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno(), theirs.fileno()]))])
            ours.sendall(frame)
        except OSError: pass
        theirs.close()
        ours.settimeout(0 if n else 0.3)
        try: answers.append(ours.recv(100))
        except OSError: pass
        try: answers.append(client.recv(100))
        except OSError: pass
    print(set(answers) <= {b""})
  `;

  test('takes no stream from a process that was born inside', async () => {
    await using sandbox = await create();
    const ran = await sandbox.run(ask);
    expect(ran.stdout).toBe('True\n');
    expect(ran.result.exit_code).toBe(0);
    await expectUnharmed(sandbox);
  });

  test('takes no stream from a child of a process that entered', async () => {
    await using sandbox = await create();
    // What keeps a program from the socket is Landlock where there is one: nothing does here.
    expect(await sandbox.neighbour(`import os\nif os.fork():\n    os.wait()\n    os._exit(0)\n${ask}`)).toBe(
      'True\n',
    );
    expect(await sandbox.intrude()).toBe('');
    expect((await sandbox.run('print("still here")')).stdout).toBe('still here\n');
    expect(sandbox.ready.epoch).toBe(1);
    await expectUnharmed(sandbox);
  });

  test('closes what holds a stream to everybody of its UID, also where no Landlock does', async () => {
    await using sandbox = await create();
    const tried = await sandbox.neighbour(py`
      import ctypes, os
      libc = ctypes.CDLL(None)
      def entered(pid): return pid not in (1, os.getpid()) and "\nPPid:\t0\n" in open(f"/proc/{pid}/status").read()
      holders = [int(name) for name in os.listdir("/proc") if name.isdigit() and entered(int(name))]
      doors = [("attach", pid) for pid in holders if libc.ptrace(16, pid, 0, 0) == 0]
      for pid in holders:
          try: doors.append((os.open(f"/proc/{pid}/mem", os.O_RDWR), pid))
          except PermissionError: pass
      print(os.getuid(), len(holders), doors)
    `);
    expect(tried).toMatch(/^\d+ 1 \[\]\n$/);
    expect((await sandbox.run('print("still here")')).stdout).toBe('still here\n');
    await expectUnharmed(sandbox);
  });

  test('is reached while a program holds its socket busy', async () => {
    await using sandbox = await create();
    const ran = await sandbox.run(
      py`
        import os, socket
        print("up")
        held = []
        for _ in range(3): os.fork()
        while True:
            try:
                client = socket.socket(socket.AF_UNIX)
                client.setblocking(False)
                client.connect("\0podgate-runner")
                held = held[-20:] + [client]
            except OSError: pass
      `,
      {
        cpuSeconds: 100,
        timeoutMs: 15_000,
        onData: (_execution, { stdout }) => {
          if (stdout === 'up\n') sandbox.client.close();
        },
        onLost: (checkpoint, handlers) => {
          const next = sandbox.attach(2, [{ checkpoint, handlers }]);
          void next.ready.then(() => next.resumed[0]?.cancel('reached'));
          return next.resumed[0] as RunnerExecution;
        },
      },
    );
    expect(ran.result.outcome).toBe('cancelled');
    await expectUnharmed(sandbox);
  });

  test('loses no result to a program that kills everything it can', async () => {
    await using sandbox = await create();
    const ran = await sandbox.run('import os\nprint("up")\nos.kill(-1, 9)');
    expect(ran.stdout).toBe('up\n');
    await expectUnharmed(sandbox);
  });

  test('ends a stream that breaks the rules, and only the stream', async () => {
    await using sandbox = await create();
    const control = (type: number, sequence: number, body: unknown, stream = 0): Frame => ({
      type,
      channel: 0,
      stream,
      sequence,
      body: Buffer.isBuffer(body) ? body : json(body),
    });
    const start = { language: 'python', last_line_interactive: true, traceparent: null, collect: true };
    const sizes = { manifest: 2, code: 1, stdin: null, files: 0 };
    const limits = {
      timeout_ms: 1000,
      max_output_bytes: 1,
      memory_bytes: MIB,
      cpu_seconds: 1,
      output_limit_bytes: null,
    };
    const good = { ...start, sizes, limits };
    // No stream id is taken twice.
    let last = 1_000;
    const withStart = (frame: (stream: number) => Frame) => {
      last += 1;
      return send(control(TYPE.START, 2, good, last), frame(last));
    };
    // ATTACH_RUNNER was frame 1.
    type Fault = [string, (sandbox: Sandbox, epoch: number) => void];
    const faults: Fault[] = [
      ['noise', ({ stream }) => stream.write(Buffer.alloc(200, 0xee))],
      ['a text', ({ stream }) => stream.write('GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n')],
      ['a sequence out of place', send(control(TYPE.PING, 3, { id: 1 }))],
      ['a sequence used twice', send(control(TYPE.PING, 1, { id: 1 }))],
      ['a type that nobody knows', send(control(0x7f, 2, {}))],
      ['a type of its own', send(control(TYPE.READY, 2, {}))],
      ['JSON that is none', send(control(TYPE.PING, 2, Buffer.from('{"id"')))],
      ['JSON that is no object', send(control(TYPE.PING, 2, [1]))],
      ['JSON without end', send(control(TYPE.PING, 2, Buffer.from('['.repeat(60_000))))],
      ['a member that is missing', send(control(TYPE.START, 2, { ...good, sizes: undefined }, 1_000))],
      ['a size below zero', send(control(TYPE.START, 2, { ...good, sizes: { ...sizes, code: -1 } }, 1_000))],
      [
        'a size that is no number',
        send(control(TYPE.START, 2, { ...good, sizes: { ...sizes, code: '1' } }, 1_000)),
      ],
      [
        'a size that is true',
        send(control(TYPE.START, 2, { ...good, sizes: { ...sizes, code: true } }, 1_000)),
      ],
      ['a request id that is no text', send(control(TYPE.START, 2, { ...good, request_id: 7 }, 1_000))],
      [
        'a request id over its bound',
        send(control(TYPE.START, 2, { ...good, request_id: 'x'.repeat(129) }, 1_000)),
      ],
      [
        'a traceparent over its bound',
        send(control(TYPE.START, 2, { ...good, traceparent: 'x'.repeat(129) }, 1_000)),
      ],
      ...[0, 90_001].map(
        (ttl_seconds): Fault => [
          `a session of ${ttl_seconds} s`,
          send(control(TYPE.START, 2, { ...good, session: { do: 'open', ttl_seconds } }, 1_000)),
        ],
      ),
      ...[0, 32, true, undefined].map(
        (signal): Fault => [
          `signal ${signal}`,
          withStart((stream) => control(TYPE.SIGNAL, 3, { signal }, stream)),
        ],
      ),
      ...[0, 4_097].map(
        (rows): Fault => [
          `${rows} rows`,
          withStart((stream) => control(TYPE.RESIZE, 3, { rows, columns: 80 }, stream)),
        ],
      ),
      ['a body over its bound', send(control(TYPE.PING, 2, Buffer.alloc(MAX_CONTROL_BYTES + 1, 0x20)))],
      ['ATTACH_RUNNER twice', send(control(TYPE.ATTACH_RUNNER, 2, { epoch: 1, offsets: {} }))],
      ['DATA on a stream that never was', send({ ...control(TYPE.DATA, 0, Buffer.from('x'), 999_999) })],
      [
        'more input than its sizes say',
        withStart((stream) => control(TYPE.DATA, 0, Buffer.from('{}12'), stream)),
      ],
      ['input with a gap', withStart((stream) => control(TYPE.DATA, 1, Buffer.from('{'), stream))],
    ];
    let epoch = 1;
    for (const [name, misbehave] of faults) {
      misbehave(sandbox, epoch);
      const reason = await sandbox.client.closed;
      // Where an execution has all its input the runner may tell of it first, and our own client never opened that.
      const codes = name.startsWith('more input') ? /^(sandbox_lost|protocol_error)$/ : /^sandbox_lost$/;
      expect([name, reason.code]).toEqual([name, expect.stringMatching(codes)]);
      epoch += 1;
      await sandbox.attach(epoch).ready;
      const running = sandbox.ready.running;
      expect([name, running.length <= 1]).toEqual([name, true]);
      expect(sandbox.processes().length).toBeGreaterThan(0);
    }
  });

  function send(...frames: Frame[]) {
    return ({ stream }: Sandbox, epoch: number) => {
      const writer = createFrameWriter(epoch, stream);
      for (const frame of frames) writer.send(frame);
    };
  }
});

/** Until everything below `pid` has slept for a while: there is no event for a process that has become idle. */
async function sleepsBelow(pid: number): Promise<void> {
  const { readFileSync } = await import('node:fs');
  let calm = 0;
  while (calm < 5) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const pids = [pid];
    try {
      pids.push(...readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number));
      const states = pids.map((each) => readFileSync(`/proc/${each}/stat`, 'utf8').split(') ')[1]?.[0]);
      calm = pids.length > 1 && states.every((state) => state === 'S') ? calm + 1 : 0;
    } catch {
      calm = 0;
    }
  }
}
