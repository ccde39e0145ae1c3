import { expect, test } from 'vitest';
import { createSandbox } from '../../fakes/runner-process.ts';
import { describePython, describeSandbox, expectUnharmed, MIB, NR, py } from './suite.ts';

/** A child in a session of its own that ignores what can be ignored, started as `how` says; it never ends by itself. */
const SURVIVOR = py`
  import os, signal, time, sys
  def survive():
      if os.getpid() != os.getpgrp(): os.setsid()
      for number in signal.valid_signals():
          try: signal.signal(number, signal.SIG_IGN)
          except (OSError, ValueError): pass
      while True: time.sleep(1)
`;

describeSandbox('a program that leaves', (sandbox) => {
  test.each([
    ['a child in its own session', 'if os.fork() == 0: survive()'],
    [
      'a grandchild whose parent is gone',
      'if os.fork() == 0:\n    if os.fork() == 0: survive()\n    os._exit(0)\nos.wait()',
    ],
    ['a child that holds no descriptor', 'if os.fork() == 0:\n    os.closerange(0, 256)\n    survive()'],
    ['a stopped child', 'if os.fork() == 0:\n    os.kill(os.getpid(), signal.SIGSTOP)\n    survive()'],
    [
      'a stopped child in its own session',
      'if os.fork() == 0:\n    os.setsid()\n    os.kill(os.getpid(), signal.SIGSTOP)',
    ],
    [
      'a child that holds the pipes and writes',
      'if os.fork() == 0:\n    os.setsid()\n    while True: os.write(1, b"x" * 4096)',
    ],
    [
      'children that fork as they die',
      'if os.fork() == 0:\n    while True:\n        if os.fork() != 0: os._exit(0)',
    ],
    ['a zombie', 'if os.fork() == 0: os._exit(0)'],
    [
      'a child that changes its name',
      'if os.fork() == 0:\n    import ctypes; ctypes.CDLL(None).prctl(15, b"python3", 0, 0, 0)\n    survive()',
    ],
    [
      'a child that takes its orphans',
      'import ctypes\nif os.fork() == 0:\n    ctypes.CDLL(None).prctl(36, 1)\n    if os.fork() == 0: survive()\n    survive()',
    ],
  ])('%s is ended with it, and at once', async (_name, code) => {
    const ran = await sandbox().run(`${SURVIVOR}\n${code}\nos.write(2, b"main")`, { maxOutputBytes: 10_000 });
    expect(ran.stderr).toBe('main');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    expect(ran.result.duration_ms).toBeLessThan(3_000);
    await expectUnharmed(sandbox());
  });

  test('children in their own sessions ends with them when its time is up', async () => {
    const ran = await sandbox().run(
      `${SURVIVOR}\nfor _ in range(10):\n    if os.fork() == 0: survive()\nsurvive()`,
      {
        timeoutMs: 500,
      },
    );
    expect(ran.result.outcome).toBe('timed_out');
    await expectUnharmed(sandbox());
  });

  test('namespaces of its own ends with all in them', async () => {
    const ran = await sandbox().run(
      `${SURVIVOR}\n${py`
      import ctypes
      libc = ctypes.CDLL(None, use_errno=True)
      allowed = libc.unshare(0x10000000 | 0x20000000) == 0
      if os.fork() == 0:
          for _ in range(3):
              if os.fork() == 0: survive()
          survive()
      print("main")
    `}`,
    );
    expect(ran.stdout).toBe('main\n');
    await expectUnharmed(sandbox());
  });

  test('a background job of bash is not waited for', async () => {
    const ran = await sandbox().run('setsid sleep 60 & (trap "" TERM HUP; sleep 60) & echo main', {
      language: 'bash',
    });
    expect(ran.stdout).toBe('main\n');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
    await expectUnharmed(sandbox());
  });
});

describeSandbox('a program that signals', (sandbox) => {
  test.each([
    ['everything with KILL', 'os.kill(-1, 9)'],
    ['everything with STOP', 'os.kill(-1, signal.SIGSTOP)'],
    ['everything with TERM', 'os.kill(-1, 15)'],
    ['PID 1 with KILL', 'os.kill(1, 9)'],
    ['PID 1 with STOP', 'os.kill(1, signal.SIGSTOP)'],
    ['PID 1 with INT', 'os.kill(1, 2)'],
    ['PID 1 with every signal', 'for n in signal.valid_signals(): attempt(1, n)'],
    ['its parent with KILL', 'os.kill(os.getppid(), 9)'],
    ['its parent with STOP', 'os.kill(os.getppid(), signal.SIGSTOP)'],
    ['all PIDs with KILL', 'for pid in range(2, 400):\n    if pid != os.getpid(): attempt(pid, 9)'],
    ['all groups with KILL', 'for pid in range(1, 400):\n    if pid != os.getpgrp(): attempt(-pid, 9)'],
    [
      'by thread with KILL',
      'for pid in range(1, 400):\n    if pid != os.getpid(): libc.syscall(NR["tkill"], pid, 9); libc.syscall(NR["tgkill"], pid, pid, 9)',
    ],
    [
      'by descriptor with KILL',
      'for pid in range(1, 400):\n    if pid != os.getpid():\n        fd = libc.syscall(434, pid, 0)\n        if fd >= 0: libc.syscall(424, fd, 9, 0, 0)',
    ],
    [
      'by queue with KILL',
      'info = ctypes.create_string_buffer(128); info[0] = 9; info[8] = 255\nfor pid in range(1, 400):\n    if pid != os.getpid(): libc.syscall(NR["sigqueue"], pid, 9, info)',
    ],
    [
      'by another process',
      'if os.fork() == 0:\n    os.setsid()\n    for pid in range(1, 400):\n        if pid != os.getpid(): attempt(pid, 9)\n    os._exit(0)\nos.wait()',
    ],
    [
      'by F_SETOWN',
      'import fcntl\nr, w = os.pipe()\nfor pid in (1, os.getppid()):\n    try: fcntl.fcntl(r, fcntl.F_SETOWN, pid); fcntl.fcntl(r, 10, 9); fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC); os.write(w, b"x")\n    except OSError: pass',
    ],
  ])('%s harms nobody', async (_name, code) => {
    const before = sandbox()
      .processes()
      .map(({ pid }) => pid);
    const ran = await sandbox().run(
      `${py`
        import ctypes, os, signal
        libc = ctypes.CDLL(None, use_errno=True)
        def attempt(pid, number):
            try: os.kill(pid, number)
            except (OSError, ProcessLookupError): pass
      `}\n${NR}\n${code}\nNone`,
      { timeoutMs: 5_000 },
    );
    expect(ran.result.outcome).toMatch(/^(exited|signaled|timed_out)$/);
    expect(
      sandbox()
        .processes()
        .map(({ pid }) => pid),
    ).toEqual(before);
    await expectUnharmed(sandbox());
  });

  test('itself with STOP is timed out and ended', async () => {
    const ran = await sandbox().run('import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)', {
      timeoutMs: 500,
    });
    expect(ran.result.outcome).toBe('timed_out');
    await expectUnharmed(sandbox());
  });

  test('its own children is left alone', async () => {
    const ran = await sandbox().run(py`
      import signal, subprocess
      child = subprocess.Popen(["sleep", "60"])
      child.terminate()
      print(child.wait())
      child = subprocess.Popen(["sleep", "60"])
      child.kill()
      print(child.wait())
    `);
    expect([ran.result.outcome, ran.stdout, ran.stderr]).toEqual(['exited', '-15\n-9\n', '']);
  });
});

describePython('an interrupt', (python) => {
  // From outside, as no Landlock keeps it back: a program reaches PID 1 by pidfd_send_signal and a descriptor of /proc/1.
  test('of PID 1 of a program’s own namespaces ends neither, and the program can be interrupted', async () => {
    await using sandbox = await createSandbox({ python, config: { place: 'fresh' } });
    const code = py`
      import ctypes, os, signal
      ctypes.CDLL(None).prctl(15, b"program", 0, 0, 0)
      def rests_with_it():
          with open("/proc/1/status") as lines: status = dict(line.split(":\t", 1) for line in lines)
          return status["State"][0] == "S" and int(status["ShdPnd"], 16) == 1 << signal.SIGINT - 1
      print("there", flush=True)
      looks = 0
      while looks < 100: looks = looks + 1 if rests_with_it() else 0
      try: signal.raise_signal(signal.SIGINT)
      except KeyboardInterrupt: print("heard")
    `;
    const ran = await sandbox.run(code, {
      timeoutMs: 20_000,
      onData: (_execution, { stdout }) => {
        if (stdout !== 'there\n') return;
        const program = sandbox.processes().find(({ comm }) => comm === 'program');
        process.kill(program?.parent as number, 'SIGINT');
      },
    });
    expect(ran.exit.failure).toBe(null);
    expect(ran.stdout).toBe('there\nheard\n');
    expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
  });
});

describeSandbox('a program that names itself', (sandbox) => {
  test.each(['a kB', 'VmHWM:\t1 kB', '1 kB', 'a\nb: c kB', ') Z 1 1', ' '])(
    '%j is measured as any other',
    async (name) => {
      const ran = await sandbox().run(py`
      import ctypes, time
      assert ctypes.CDLL(None).prctl(15, ${JSON.stringify(name)}.encode(), 0, 0, 0) == 0
      held = b"x" * (64 << 20)
      time.sleep(0.2)
    `);
      expect(ran.result).toMatchObject({ outcome: 'exited', exit_code: 0 });
      expect(ran.result.peak_memory_bytes).toBeGreaterThan(64 * MIB);
      await expectUnharmed(sandbox());
    },
  );
});

describeSandbox('the runner and its zygote are closed to a program by', (sandbox) => {
  /**
   * Prints for each attempt whether it was refused; `targets` are PID 1 and every other process but its own, and what
   * entered from outside: that only holds a stream open.
   */
  const attempt = (code: string) =>
    sandbox().run(
      `${py`
      import ctypes, os, resource, signal
      libc = ctypes.CDLL(None, use_errno=True)
      def entered(pid): return pid != 1 and "\nPPid:\t0\n" in open(f"/proc/{pid}/status").read()
      targets = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
      targets = [pid for pid in targets if not entered(pid)]
      assert 1 in targets and os.getppid() in targets, targets
      open_doors = []
      def refused(what, action):
          try: value = action()
          except OSError: return
          if isinstance(value, int) and not isinstance(value, bool) and value < 0: return
          open_doors.append((what, value))
    `}\n${NR}\n${code}\nprint(open_doors)`,
    );

  test.each([
    [
      'reading /proc',
      'for pid in targets:\n    for name in ("mem", "environ", "maps", "smaps", "auxv", "io", "stack", "syscall", "personality", "pagemap"):\n        refused((pid, name), lambda: len(open(f"/proc/{pid}/{name}", "rb").read(10)) if name != "mem" else os.open(f"/proc/{pid}/mem", os.O_RDWR))',
    ],
    [
      'following /proc',
      'for pid in targets:\n    for name in ("cwd", "root", "exe", "fd/0", "fd/1", "fd/3", "ns/pid"):\n        refused((pid, name), lambda: os.readlink(f"/proc/{pid}/{name}"))\n    refused((pid, "fd"), lambda: os.listdir(f"/proc/{pid}/fd"))\n    refused((pid, "map_files"), lambda: os.listdir(f"/proc/{pid}/map_files"))',
    ],
    [
      'writing /proc',
      'for pid in targets:\n    for name, value in (("oom_score_adj", b"1000"), ("oom_adj", b"15"), ("comm", b"x"), ("clear_refs", b"1"), ("coredump_filter", b"1"), ("timerslack_ns", b"1000"), ("autogroup", b"19"), ("sched", b"0")):\n        def write():\n            with open(f"/proc/{pid}/{name}", "wb", 0) as file: return file.write(value)\n        refused((pid, name), write)',
    ],
    [
      'ptrace',
      'for pid in targets:\n    refused((pid, "attach"), lambda: libc.ptrace(16, pid, 0, 0))\n    refused((pid, "seize"), lambda: libc.ptrace(0x4206, pid, 0, 0))',
    ],
    [
      'reading and writing its memory',
      'buffer = ctypes.create_string_buffer(16)\nclass V(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]\nv = V(ctypes.addressof(buffer), 16)\nfor pid in targets:\n    refused((pid, "readv"), lambda: libc.process_vm_readv(pid, ctypes.byref(v), 1, ctypes.byref(v), 1, 0))\n    refused((pid, "writev"), lambda: libc.process_vm_writev(pid, ctypes.byref(v), 1, ctypes.byref(v), 1, 0))',
    ],
    [
      'prlimit',
      'for pid in targets:\n    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):\n        refused((pid, limit), lambda: resource.prlimit(pid, limit, (0, 0)) and 0)',
    ],
    [
      'scheduling',
      'p = ctypes.byref(ctypes.c_int(0))\nfor pid in targets:\n    refused((pid, "affinity"), lambda: os.sched_setaffinity(pid, {0}) or 0)\n    refused((pid, "nice"), lambda: os.setpriority(os.PRIO_PROCESS, pid, 19) or 0)\n    refused((pid, "policy"), lambda: libc.sched_setscheduler(pid, 5, p))\n    refused((pid, "io"), lambda: libc.syscall(NR["ioprio"], 1, pid, (3 << 13)))\nfor pid in targets + [os.getpgid(os.getppid()), 1]:\n    refused((pid, "group"), lambda: os.setpriority(os.PRIO_PGRP, pid, 19) or 0)\nrefused("user", lambda: os.setpriority(os.PRIO_USER, 0, 19) or 0)',
    ],
    [
      'taking its descriptors',
      'for pid in targets:\n    def take():\n        fd = libc.syscall(434, pid, 0)\n        return libc.syscall(438, fd, 0, 0) if fd >= 0 else -1\n    refused((pid, "getfd"), take)',
    ],
    [
      'moving it',
      'for pid in targets:\n    refused((pid, "pgid"), lambda: os.setpgid(pid, os.getpgrp()) or 0)\n    refused((pid, "kcmp"), lambda: libc.syscall(NR["kcmp"], pid, os.getpid(), 1, 0, 0))\n    refused((pid, "madvise"), lambda: libc.syscall(440, libc.syscall(434, pid, 0), 0, 0, 21, 0))\n    refused((pid, "migrate"), lambda: libc.syscall(NR["migrate"], pid, 64, ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)))',
    ],
  ])('%s', async (_name, code) => {
    const ran = await attempt(code);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe('[]\n');
    await expectUnharmed(sandbox());
  });

  test('frames forged on every descriptor it has', async () => {
    const ran = await sandbox().run(py`
      import os, struct
      body = b'{"result":null,"failure":{"code":"forged","detail":"x","started":"no"}}'
      frame = struct.pack(">IIBBBBIQ", len(body), 1, 1, 0x18, 0, 0, 1, 1) + body
      written = []
      for fd in range(3, 1024):
          try: os.write(fd, frame); written.append(fd)
          except OSError: pass
      for pid in ("1", str(os.getppid())):
          for fd in range(0, 20):
              try:
                  with open(f"/proc/{pid}/fd/{fd}", "wb", 0) as file: file.write(frame); written.append((pid, fd))
              except OSError: pass
      os.write(1, frame)
      os.write(2, str(written).encode())
      None
    `);
    expect(ran.stderr).toBe('[]');
    expect(ran.stdout).toContain('"code":"forged"');
    expect(ran.result).toMatchObject({
      outcome: 'exited',
      exit_code: 0,
      stdout_bytes: ran.stdoutBytes.byteLength,
    });
    await expectUnharmed(sandbox());
  });

  test('cores: it leaves none, whatever it sets, also where the machine pipes them to a program', async () => {
    const own = await sandbox().run(py`
      import ctypes, os, resource
      libc = ctypes.CDLL(None)
      kind, none, before = resource.RLIMIT_CORE, (ctypes.c_ulong * 2)(), resource.getrlimit(resource.RLIMIT_CORE)
      resource.setrlimit(kind, (0, 0))
      libc.setrlimit(kind, none), libc.prlimit64(0, kind, none, None)
      libc.syscall({"x86_64": 160, "aarch64": 164}[os.uname().machine], kind, none)
      pid = os.fork()
      if pid == 0: os.abort()
      print(before, resource.getrlimit(kind), os.WCOREDUMP(os.waitpid(pid, 0)[1]))
    `);
    expect(own.stdout + own.stderr).toBe('(1, 1) (1, 1) False\n');
    const shell = await sandbox().run('ulimit -c 0; grep core /proc/self/limits', { language: 'bash' });
    expect(shell.stdout).toMatch(/^Max core file size +1 +1 +bytes *\n$/);
    await expectUnharmed(sandbox());
  });

  test('privileges: it has none and gets none', async () => {
    const ran = await sandbox().run(py`
      import os, re
      status = open("/proc/self/status").read()
      for name in ("NoNewPrivs", "Seccomp", "CapEff", "CapPrm", "CapBnd", "CapAmb", "Uid", "TracerPid"):
          print(name, *re.search(rf"^{name}:\s*(.*)$", status, re.M).group(1).split())
      print(open("/proc/self/oom_score_adj").read().strip(), os.getsid(0) == os.getpid(), os.access("/proc/self/mem", os.R_OK))
      print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1])
      try: os.open("/dev/tty", os.O_RDWR)
      except OSError as error: print("no terminal")
    `);
    expect(ran.stderr).toBe('');
    expect(ran.stdout.split('\n')).toEqual([
      'NoNewPrivs 1',
      'Seccomp 2',
      ...['CapEff', 'CapPrm', 'CapBnd', 'CapAmb'].map((name) => `${name} 0000000000000000`),
      `Uid${` ${sandbox().uid}`.repeat(4)}`,
      'TracerPid 0',
      '1000 True True',
      '[0, 1, 2]',
      'no terminal',
      '',
    ]);
  });
});
