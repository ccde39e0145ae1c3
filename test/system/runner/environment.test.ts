import { expect, test } from 'vitest';
import { createSandbox } from '../../fakes/runner-process.ts';
import type { RunOptions } from '../../fakes/runner-run.ts';
import { describePython, describeSandbox, expectNext, MIB, py } from './suite.ts';

const SHOW = 'import json, os\nprint(json.dumps(dict(os.environ)))';

describeSandbox(
  'the environment',
  (sandbox) => {
    test("is the image's own without the cluster's, then ours", async () => {
      const environment = JSON.parse((await sandbox().run(SHOW)).stdout);
      expect(environment).toMatchObject({
        IMAGE_SETTING: 'kept',
        HOME: '/tmp',
        LANG: 'C.UTF-8',
        PYTHONUNBUFFERED: '1',
        MPLBACKEND: 'Agg',
      });
      for (const name of Object.keys(environment))
        expect(name).not.toMatch(/^(KUBERNETES_|PODGATE_)|_SERVICE_/);
      expect(environment).not.toHaveProperty('TRACEPARENT');
      expect(environment).not.toHaveProperty('LD_BIND_NOW');
      expect(environment.PATH).toContain('/usr/bin');
    });

    test('tells libraries with threads of their own how many there is room for', async () => {
      const names = ['OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'RAYON_NUM_THREADS'];
      const environment = JSON.parse((await sandbox().run(SHOW)).stdout);
      expect(names.map((name) => environment[name])).toEqual(['1', '1', '1', '3']);
      const env = { OMP_NUM_THREADS: '2' };
      expect(JSON.parse((await sandbox().run(SHOW, { env })).stdout)).toMatchObject(env);
    });

    test("is then the request's, which wins", async () => {
      const env = { HOME: '/srv', MPLBACKEND: 'svg', NEW: 'ü\n=', KUBERNETES_X: 'asked for', EMPTY: '' };
      const environment = JSON.parse((await sandbox().run(SHOW, { env })).stdout);
      expect(environment).toMatchObject(env);
      expect(JSON.parse((await sandbox().run(SHOW)).stdout)).not.toHaveProperty('NEW');
    });

    test('has the traceparent of the caller', async () => {
      const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
      const environment = JSON.parse((await sandbox().run(SHOW, { traceparent })).stdout);
      expect(environment.TRACEPARENT).toBe(traceparent);
    });

    test('has nothing of the id of the request', async () => {
      const requestId = 'req-7'.padEnd(128, 'x');
      const { stdout } = await sandbox().run(SHOW, { requestId });
      expect(JSON.parse(stdout)).toMatchObject({ HOME: '/tmp' });
      expect(stdout).not.toContain('req-7');
    });

    test('is the same for children, and for the process itself in /proc', async () => {
      const ran = await sandbox().run(
        py`
        import os, subprocess
        print(subprocess.run(["env"], capture_output=True, text=True).stdout)
        print(open("/proc/self/environ").read().replace("\0", "\n"))
      `,
        { env: { ASKED: 'yes' } },
      );
      expect(ran.stdout).toContain('ASKED=yes');
      expect(ran.stdout).not.toMatch(/KUBERNETES_|PODGATE_|_SERVICE_/);
    });

    test('holds for Python as if it had started with it: time zone, path of modules, warnings', async () => {
      const code = py`
        import subprocess, sys, time, warnings
        print(time.tzname, time.localtime(0).tm_hour, sys.path, sys.warnoptions, warnings.filters, flush=True)
        if len(sys.argv) == 1: subprocess.run([sys.executable, "-B", "-s", "-u", __file__, "started"])
      `;
      const env = {
        TZ: 'XYZ-9',
        PYTHONPATH: 'lib:/srv/lib::/opt',
        PYTHONWARNINGS: 'error,ignore::UserWarning',
      };
      const [own, started, ...rest] = (await sandbox().run(code, { env })).stdout.split('\n');
      expect([own, rest]).toEqual([started, ['']]);
      expect(own).toMatch(/^\('XYZ', 'XYZ'\) 9 \['\/srv', '\/srv\/lib', '\/srv', '\/opt', .*'ignore::User/);
      expect((await sandbox().run(code)).stdout).not.toMatch(/XYZ|\/srv\/lib|UserWarning/);
      const closed = await sandbox().run(
        'def leave(): open("/dev/null")\nleave()\nleft = open("/dev/null")',
        {
          env: { PYTHONWARNINGS: 'always' },
        },
      );
      expect(closed.stderr.match(/ResourceWarning: unclosed/g)).toHaveLength(2);
      const warned = await sandbox().run('import warnings\nwarnings.warn("said")', {
        env: { PYTHONWARNINGS: 'error' },
      });
      expect([warned.exit.result?.exit_code, warned.stderr.split('\n').at(-2)]).toEqual([
        1,
        'UserWarning: said',
      ]);
    });

    test('may be large', async () => {
      const env = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`N${n}`, 'v'.repeat(100)]));
      const environment = JSON.parse((await sandbox().run(SHOW, { env })).stdout);
      expect(environment).toMatchObject(env);
    });

    test('with a name or a value that cannot be is no crash', async () => {
      for (const env of [{ 'A=B': 'x' }, { '': 'x' }, { A: 'x\0y' }, { '\ud800': 'x' }] as Record<
        string,
        string
      >[]) {
        const ran = await sandbox().run('1', { env });
        if (ran.exit.failure) expect(ran.exit.failure).toMatchObject({ code: 'stage_failed', started: 'no' });
        await expectNext(sandbox());
      }
    });
  },
  {
    env: {
      IMAGE_SETTING: 'kept',
      RAYON_NUM_THREADS: '3',
      KUBERNETES_SERVICE_HOST: '10.0.0.1',
      KUBERNETES_PORT: 'tcp://10.0.0.1:443',
      DB_SERVICE_HOST: '10.0.0.2',
      DB_SERVICE_PORT_HTTP: '80',
      PODGATE_ANYTHING: 'secret',
      LANG: 'de_DE.ISO-8859-1',
      HOME: '/root',
    },
  },
);

describeSandbox(
  'what an image tells the linker',
  (sandbox) => {
    test('reaches its programs', async () => {
      expect(JSON.parse((await sandbox().run(SHOW)).stdout)).toMatchObject({ LD_BIND_NOW: '1' });
    });
  },
  { env: { LD_BIND_NOW: '1' } },
);

describeSandbox('an execution', (sandbox) => {
  test('has arguments as they were given', async () => {
    const args = ['', ' ', 'ü', '-c', '--', "'; rm -rf /", 'x'.repeat(100_000), '\n'];
    const ran = await sandbox().run('import json, sys\nprint(json.dumps(sys.argv[1:]))', { args });
    expect(JSON.parse(ran.stdout)).toEqual(args);
  });

  test('works in the workspace, in a session of its own, with the usual mask', async () => {
    const ran = await sandbox().run(py`
      import os, resource
      print(os.getcwd(), os.getsid(0) == os.getpid() == os.getpgrp(), oct(os.umask(0)), os.getuid(), os.getgroups())
      print(resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_NOFILE), os.nice(0))
    `);
    expect(ran.stdout).toBe('/srv True 0o22 65532 []\n(1, 1) (256, 256) 0\n');
  });

  test('has the limits of its template where it asks for more, and its own where it asks for less', async () => {
    const show =
      'import resource\nprint(*(resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_CPU)))';
    const limits = async (options: RunOptions) =>
      (await sandbox().run(show, options)).stdout.trim().split(' ').map(Number);
    const [data = 0, cpu = 0] = await limits({ memoryBytes: 256 * MIB, cpuSeconds: 20 });
    expect(await limits({ memoryBytes: 1_024 * MIB, cpuSeconds: 1_000 })).toEqual([data, cpu]);
    expect(await limits({ memoryBytes: 128 * MIB, cpuSeconds: 2 })).toEqual([data - 128 * MIB, cpu - 18]);
  });

  test('writes nowhere but in its workspace and scratch places, where the kernel has Landlock', async (context) => {
    if (sandbox().ready.features.landlock_abi < 2) context.skip('the kernel has no Landlock of ABI 2');
    const ran = await sandbox().run(py`
      import os
      for action in (lambda: open("/media/x", "w"), lambda: os.mkdir("/media/d"), lambda: os.mkfifo("/media/f"),
                     lambda: os.symlink("x", "/media/l")):
          try: action(); print("wrote")
          except OSError as error: pass
      open("f", "w").close()
      for place in (".", "/tmp", "/dev/shm"): os.mkdir(place + "/d"); os.rename(place + "/d", place + "/e"); os.rmdir(place + "/e")
      print(os.listdir("/media"), open("/dev/null", "w").write("x"), len(open("/dev/urandom", "rb").read(4)))
    `);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe('[] 1 4\n');
  });

  test('finds its scratch places writable and empty, and the rest not', async () => {
    const ran = await sandbox().run(py`
      import os, tempfile
      print([os.listdir(place) for place in ("/tmp", "/dev/shm")], tempfile.gettempdir())
      with tempfile.TemporaryDirectory() as place: open(place + "/f", "w").write("x")
      for path in ("/etc/x", "/x", "/usr/x", "/var/tmp/x"):
          try: open(path, "w"); print("wrote", path)
          except OSError: pass
    `);
    expect(ran.stdout).toBe('[[], []] /tmp\n');
  });
});

describePython('an execution', (python) => {
  test('changes nothing that lies outside its places, where the kernel has Landlock', async (context) => {
    await using sandbox = await createSandbox({ python });
    if (sandbox.ready.features.landlock_abi < 3) context.skip('the kernel has no Landlock of ABI 3');
    await sandbox.neighbour('import os\nos.mkdir("/media/d")\nopen("/media/f", "w").write("text")');
    const ran = await sandbox.run(py`
      import os, socket
      for action in (lambda: os.rmdir("/media/d"), lambda: os.remove("/media/f"), lambda: os.rename("/media/f", "/media/g"),
                     lambda: os.link("/media/f", "/media/g"), lambda: os.truncate("/media/f", 0), lambda: open("/media/f", "a"),
                     lambda: os.mknod("/media/g"), lambda: socket.socket(socket.AF_UNIX).bind("/media/g")):
          try: action(); print("changed")
          except OSError: pass
      os.mkdir("from"), os.mkdir("to"), open("from/own", "w").close(), os.rename("from/own", "to/own")
      print(sorted(os.listdir("/media")), open("/media/f").read(), os.listdir("to"))
    `);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe("['d', 'f'] text ['own']\n");
  });

  test('signals nobody who came from outside, and reaches no name of theirs, where Landlock has scopes', async (context) => {
    await using sandbox = await createSandbox({ python, config: { attach: 'socket' } });
    if (sandbox.ready.features.landlock_abi < 6) context.skip('the kernel has no Landlock of ABI 6');
    const ran = await sandbox.run(py`
      import os, socket
      def entered(pid): return pid != 1 and "\nPPid:\t0\n" in open(f"/proc/{pid}/status").read()
      holders = [int(name) for name in os.listdir("/proc") if name.isdigit() and entered(int(name))]
      for action in (lambda: os.kill(holders[0], 0), lambda: socket.socket(socket.AF_UNIX).connect("\0podgate-runner")):
          try: action(); print("reached")
          except PermissionError: print("refused")
      print(len(holders))
    `);
    expect(ran.stdout).toBe('refused\nrefused\n1\n');
  });

  test('finds no module where programs before it could write', async () => {
    const PYTHONPATH = '/tmp/lib:/usr/share::lib:/srv:/tmpfiles:/dev/shm/';
    await using sandbox = await createSandbox({ python, env: { PYTHONPATH } });
    const ran = await sandbox.run('import os, sys\nprint(os.environ["PYTHONPATH"], *sys.path[:4])');
    expect(ran.stdout).toMatch(/^\/usr\/share:\/tmpfiles \/srv \/usr\/share \/tmpfiles \S+\n$/);
  });

  test.each([
    ['shared', 'refused'],
    ['fresh', 'reached'],
  ])(
    'in a place that is %s signals all there is at once where that is its own: it is %s',
    async (place, said) => {
      await using sandbox = await createSandbox({ python, config: { place } });
      const ran = await sandbox.run(py`
      import os, time
      if os.fork() == 0: time.sleep(60)
      try: os.kill(-1, 0); print("reached")
      except PermissionError: print("refused")
    `);
      expect(ran.stdout).toBe(`${said}\n`);
    },
  );

  test('has no capability, and none to gain, where it is root of its own namespaces', async () => {
    await using sandbox = await createSandbox({ python, config: { place: 'fresh' } });
    const ran = await sandbox.run(py`
      import ctypes
      print({line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")}, ctypes.CDLL(None).prctl(27))
    `);
    // Its bits of security: no UID gives any, and that stays.
    expect(ran.stdout).toBe(`{'0000000000000000'} ${0b101111}\n`);
  });

  test('has namespaces of its own below which are none, and bounded places', async () => {
    await using sandbox = await createSandbox({
      python,
      config: { place: 'fresh', workspace_bytes: 8 * MIB },
    });
    const ran = await sandbox.run(py`
      import os
      print(open("/proc/sys/user/max_user_namespaces").read().strip())
      flags = {line.split()[1]: line.split()[3].split(",") for line in open("/proc/self/mounts")}
      for place in ("/srv", "/tmp", "/proc"):
          size = os.statvfs(place)
          print({"nosuid", "nodev"} <= set(flags[place]), size.f_blocks * size.f_frsize, size.f_files)
    `);
    expect(ran.stdout.split('\n').slice(0, 3)).toEqual([
      '0',
      `True ${8 * MIB} 2048`,
      `True ${64 * MIB} 16384`,
    ]);
    expect(ran.stdout).toMatch(/True 0 0\n$/);
  });

  test.each(['shared', 'fresh'])(
    'is run by what is closed to its UID in a place that is %s',
    async (place) => {
      await using sandbox = await createSandbox({ python, config: { place } });
      const ran = await sandbox.run(py`
      import os
      print(*(os.stat(f"/proc/{pid}/mem").st_uid == os.getuid() for pid in (1, os.getppid(), os.getpid())))
    `);
      expect(ran.stdout).toBe('False False True\n');
    },
  );
});
