import { expect, test } from 'vitest';
import { createSandbox, type Sandbox, type SandboxProcess } from '../../fakes/runner-process.ts';
import { until } from '../../fakes/until.ts';
import { describePython, describeSandbox, expectUnharmed, MIB, patience, py } from './suite.ts';

/** Memory that no interpreter gives back at its end: it takes the kernel some ten milliseconds. */
const LARGE = `import sys\nsys.block = bytearray(b"x") * ${150 * MIB}\n`;
const TRIES = 8;

for (const place of ['shared', 'fresh'] as const) {
  describeSandbox(
    `the end of a program, ${place}`,
    (sandbox) => {
      test('is said while the kernel still takes its memory down', async () => {
        await answeredEarly(sandbox());
        await expectNothingLeft(sandbox(), place);
      });

      test('has its exit code, its output and its files', async () => {
        for (let n = 0; n < TRIES; n += 1) {
          const ran = await sandbox().run(
            `${LARGE}open("a.txt", "w").write("${n}")\nimport sys\nprint("out", end="")\nprint("err", end="", file=sys.stderr)\nsys.exit(${n})`,
          );
          expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: n, signal: null });
          expect([ran.stdout, ran.stderr, `${ran.files.get('a.txt')}`]).toEqual(['out', 'err', `${n}`]);
        }
        await expectNothingLeft(sandbox(), place);
      });

      test('has its exit code where the program does not want to be looked at', async () => {
        for (let n = 0; n < TRIES; n += 1) {
          const ran = await sandbox().run(
            `import ctypes, sys\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n${LARGE}sys.exit(7)`,
          );
          expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 7 });
        }
        await expectNothingLeft(sandbox(), place);
      });

      test('has the processor time of all its threads and children', async () => {
        const ran = await sandbox().run(py`
          import os, threading, time
          def burn():
              end = time.thread_time() + 0.15
              while time.thread_time() < end: pass
          thread = threading.Thread(target=burn)
          thread.start()
          thread.join()
          if os.fork() == 0:
              burn()
              os._exit(0)
          os.wait()
          burn()
        `);
        expect(ran.result.cpu_ms).toBeGreaterThan(420);
        expect(ran.result.cpu_ms).toBeLessThan(1_500);
      });

      test('is not when it closes its output and goes on', async () => {
        const ran = await sandbox().run(py`
          import os, time
          print("before", flush=True)
          os.close(1)
          os.close(2)
          time.sleep(0.3)
          open("late.txt", "w").write("late")
          os._exit(5)
        `);
        expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 5 });
        expect(ran.result.duration_ms).toBeGreaterThanOrEqual(300);
        expect([ran.stdout, `${ran.files.get('late.txt')}`]).toEqual(['before\n', 'late']);
        await expectNothingLeft(sandbox(), place);
      });

      test('is not when its first thread ends and another goes on', async () => {
        const ran = await sandbox().run(py`
          import ctypes, os, platform, threading, time
          def late():
              os.close(1)
              os.close(2)
              time.sleep(0.3)
              open("late.txt", "w").write("late")
              os._exit(6)
          threading.Thread(target=late).start()
          ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
        `);
        expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 6 });
        expect(`${ran.files.get('late.txt')}`).toBe('late');
        await expectNothingLeft(sandbox(), place);
      });

      test('is not survived by threads and children that never rest', async () => {
        const ran = await sandbox().run(py`
          import os, threading
          def spin():
              while True: pass
          for _ in range(4): threading.Thread(target=spin, daemon=True).start()
          if os.fork() == 0:
              os.closerange(0, 3)
              os.setsid()
              spin()
          print("end")
        `);
        expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
        expect(ran.stdout).toBe('end\n');
        await expectNothingLeft(sandbox(), place);
      });

      test('is not survived by who forks and ends for ever', async () => {
        for (let n = 0; n < TRIES; n += 1) {
          const ran = await sandbox().run(py`
            import os
            if os.fork() == 0:
                os.closerange(0, 3)
                os.setsid()
                while True:
                    if os.fork(): os._exit(0)
            print("end")
          `);
          expect(ran.stdout).toBe('end\n');
          await until(() => leftIn(sandbox(), place).length === 0);
        }
        await expectNothingLeft(sandbox(), place);
      });

      test('keeps no program waiting that comes at once', async () => {
        for (let n = 0; n < TRIES; n += 1) {
          const first = sandbox().run(`${LARGE}print(1)`);
          expect((await first).stdout).toBe('1\n');
          const ran = await sandbox().run(
            'import os\nprint(os.listdir("."), len(os.listdir("/proc/self/fd")) > 2)',
          );
          expect(ran.stdout).toMatch(/True\n$/);
          expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
        }
        await expectNothingLeft(sandbox(), place);
      });
    },
    { config: { place } },
  );
}

describePython('RESET', (python) => {
  test('is answered when the memory of the program before is free', async () => {
    await using sandbox = await createSandbox({ python });
    for (let n = 0; n < TRIES; n += 1) {
      await sandbox.run(LARGE);
      expect(await sandbox.client.reset(patience())).toEqual({ ok: true, leftovers: [] });
      expect(sandbox.remains()).toEqual([]);
    }
  });

  test('of a sandbox whose zygote is being replaced empties it too', async () => {
    await using sandbox = await createSandbox({ python });
    await sandbox.run('open("left.txt", "w").write("x")');
    const zygote = zygoteOf(sandbox);
    process.kill(zygote, 'SIGKILL');
    await until(() => !sandbox.processes().some(({ pid }) => pid === zygote));
    expect(await sandbox.client.reset(patience())).toEqual({ ok: true, leftovers: [] });
    expect((await sandbox.run('import os\nprint(os.listdir("."))')).stdout).toBe("['__main__.py']\n");
  });

  test('is answered where the zygote dies before it has told of the program’s end', async () => {
    await using sandbox = await createSandbox({ python });
    const zygote = zygoteOf(sandbox);
    await answeredEarly(sandbox, () => process.kill(zygote, 'SIGKILL'));
    expect(await sandbox.client.reset(patience())).toEqual({ ok: true, leftovers: [] });
    await until(() => sandbox.processes().every(({ pid }) => pid !== zygote));
    expect((await sandbox.run('print("next")')).stdout).toBe('next\n');
  });
});

async function expectNothingLeft(sandbox: Sandbox, place: 'shared' | 'fresh'): Promise<void> {
  if (place === 'shared') await expectUnharmed(sandbox);
  expect(leftIn(sandbox, place).filter(({ leaving }) => !leaving)).toEqual([]);
  expect(await sandbox.client.ping(patience())).toMatchObject({ processes: 0 });
  expect((await sandbox.run('print("next")')).stdout).toBe('next\n');
}

/** In fresh namespaces their PID 1, which is a child of the runner, stays for a moment. */
function leftIn(sandbox: Sandbox, place: 'shared' | 'fresh'): SandboxProcess[] {
  return sandbox.remains().filter(({ parent }) => place === 'shared' || parent !== sandbox.pid);
}

/** Runs large programs until one's EXIT is here while it is still being taken down; `then` is called at that moment. */
async function answeredEarly(sandbox: Sandbox, then = () => {}): Promise<SandboxProcess> {
  for (let n = 0; n < TRIES; n += 1) {
    const ran = await sandbox.run(LARGE);
    const [leaving] = sandbox.remains().filter((process) => process.leaving && process.state !== 'Z');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    if (!leaving) continue;
    then();
    return leaving;
  }
  throw new Error('every EXIT came after the kernel was done');
}

function zygoteOf(sandbox: Sandbox): number {
  const [zygote] = sandbox.processes().filter(({ parent }) => parent === sandbox.pid);
  if (!zygote) throw new Error('there is no zygote');
  return zygote.pid;
}
