import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { describeSandbox, expectNext, expectUnharmed, MIB, patience, py } from './suite.ts';

const NAMES = {
  'a newline': 'a\nb',
  '255 bytes': 'n'.repeat(255),
  'a character of many bytes': 'é€😀.txt',
  'a character outside Latin-1': '報告.csv',
  'a leading dot': '.env',
  'a leading dash': '-rf',
  'a space at its end': 'x ',
  'quotes and a backslash': 'q\'"\\x',
  'a control character': '\u001b[31m',
  'three dots': '...',
  'a name of the loader': '__init__.py',
};

describeSandbox('files staged', (sandbox) => {
  test('are there with their bytes before the code runs', async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
    const ran = await sandbox().run(
      py`
        import os
        print(open("a.bin", "rb").read() == bytes(range(256)), os.path.getsize("empty"), open("d/e/f.txt").read())
      `,
      { files: { 'a.bin': bytes, empty: '', 'd/e/f.txt': 'deep' } },
    );
    expect(ran.stdout).toBe('True 0 deep\n');
    expect(ran.files).toEqual(new Map());
    await expectUnharmed(sandbox());
  });

  test('of 20 MB arrive whole', async () => {
    const content = Buffer.alloc(20 * MIB, 'abcdefg');
    const ran = await sandbox().run(
      'import hashlib\nprint(hashlib.sha256(open("big", "rb").read()).hexdigest())',
      { files: { big: content } },
    );
    expect(ran.stdout).toBe(`${createHash('sha256').update(content).digest('hex')}\n`);
    expect(ran.files.size).toBe(0);
    await expectUnharmed(sandbox());
  });

  test.each(Object.entries(NAMES))('may have a name with %s', async (_name, path) => {
    const ran = await sandbox().run(
      'import os\nprint(sorted(os.listdir()) == sorted([os.environ["NAME"], "__main__.py"]))',
      {
        files: { [path]: 'content' },
        env: { NAME: path },
      },
    );
    expect(ran.stdout).toBe('True\n');
    await sandbox().client.reset(patience());
  });

  test('a thousand at once are all there', async () => {
    const files = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`d${n % 10}/f${n}`, `${n}`]));
    const ran = await sandbox().run(
      'import pathlib\nprint(sum(int(p.read_text()) for p in pathlib.Path().rglob("f*")))',
      { files },
    );
    expect(ran.stdout).toBe('499500\n');
    expect(ran.files.size).toBe(0);
    await expectUnharmed(sandbox());
  });

  test.each([
    ['../x'],
    ['/etc/x'],
    ['a/../../x'],
    ['../../../../../../etc/passwd'],
    [''],
    ['.'],
    ['a/..'],
    ['..'],
    ['a\0b'],
    [`${'d/'.repeat(3_000)}x`],
    ['n'.repeat(256)],
    ['__main__.py'],
    ['./__main__.py'],
  ])('at %j are refused before anything runs', async (path) => {
    const ran = await sandbox().run('print("ran")', { files: { [path]: 'x' } });
    expect(ran.started).toBe(false);
    expect(ran.exit.failure).toMatchObject({ code: 'stage_failed', started: 'no' });
    await expectUnharmed(sandbox());
  });

  test('where a directory lies are refused with the path named', async () => {
    await sandbox().run('import os\nos.mkdir("taken")', { collect: false });
    const ran = await sandbox().run('print("ran")', { files: { taken: 'x' } });
    expect(ran.exit.failure).toMatchObject({ code: 'stage_failed', started: 'no' });
    expect(ran.exit.failure?.detail).toContain('taken');
    await expectUnharmed(sandbox());
  });

  test('below a file are refused with the path named', async () => {
    const ran = await sandbox().run('print("ran")', { files: { a: 'x', 'a/b': 'y' } });
    expect(ran.exit.failure).toMatchObject({ code: 'stage_failed', started: 'no' });
    expect(ran.exit.failure?.detail).toContain('a/b');
    await expectUnharmed(sandbox());
  });

  test('that do not fit are refused with the path named', async () => {
    const ran = await sandbox().run('print("ran")', { files: { 'too-big': Buffer.alloc(150 * MIB) } });
    expect(ran.started).toBe(false);
    expect(ran.exit.failure).toMatchObject({ code: 'stage_failed', started: 'no' });
    expect(ran.exit.failure?.detail).toContain('too-big');
    await expectUnharmed(sandbox());
  });

  test.each([
    ['a link to a directory', 'os.symlink("/tmp", "d")', 'd/through'],
    ['a link to a file', 'open("/tmp/target", "w").close(); os.symlink("/tmp/target", "f")', 'f'],
    ['a dangling link', 'os.symlink("/tmp/through", "f")', 'f'],
    [
      'a link that the code would be written to',
      'os.remove("__main__.py"); os.symlink("/tmp/through", "__main__.py")',
      'f',
    ],
    ['a FIFO', 'os.mkfifo("f")', 'f'],
    ['a FIFO for the code', 'os.remove("__main__.py"); os.mkfifo("__main__.py")', 'x'],
    ['a directory for the code', 'os.remove("__main__.py"); os.mkdir("__main__.py")', 'x'],
  ])('do not go through %s that an execution before left', async (_name, trap, path) => {
    await sandbox().run(`import os\n${trap}`, { collect: false });
    const ran = await sandbox().run(
      py`
        import os
        print(os.path.exists("/tmp/through"), os.path.exists("/tmp/target") and os.path.getsize("/tmp/target"))
      `,
      { files: { [path]: 'staged' } },
    );
    if (ran.exit.failure) expect(ran.exit.failure).toMatchObject({ code: 'stage_failed', started: 'no' });
    else expect(ran.stdout).toMatch(/^False (False|0)\n$/);
    expect(await sandbox().client.reset(patience())).toEqual({ ok: true, leftovers: [] });
    await expectUnharmed(sandbox());
  });
});

describeSandbox('files collected', (sandbox) => {
  test('are sent on where a window is wider than what waits in the runner, with no word of the agent', async () => {
    for (let round = 0; round < 3; round += 1) {
      const ran = await sandbox().run(
        'for name in "abc": open(name, "wb").write(name.encode() * 2_000_000)\nNone',
        { grant: 64 * MIB },
      );
      expect([...ran.files.values()].map(({ byteLength }) => byteLength)).toEqual(Array(3).fill(2_000_000));
      await expectUnharmed(sandbox());
    }
  });

  test('are those that are new or changed, by content', async () => {
    const ran = await sandbox().run(
      py`
        import os, shutil
        open("new", "w").write("new")
        open("changed", "a").write("!")
        open("rewritten", "w").write("same")
        os.utime("touched")
        os.remove("removed")
        os.rename("renamed", "other")
        os.makedirs("d/e")
        open("d/e/deep", "w").write("deep")
        open("empty", "w").close()
      `,
      {
        files: {
          unchanged: 'u',
          changed: 'c',
          rewritten: 'same',
          touched: 't',
          removed: 'r',
          renamed: 'n',
        },
      },
    );
    expect(Object.fromEntries([...ran.files].map(([path, content]) => [path, content.toString()]))).toEqual({
      new: 'new',
      changed: 'c!',
      other: 'n',
      'd/e/deep': 'deep',
      empty: '',
    });
    expect(ran.result).toMatchObject({ files_omitted: [], files_omitted_count: 0 });
    await expectUnharmed(sandbox());
  });

  test('are changed ones also where size and time are as before', async () => {
    const ran = await sandbox().run(
      py`
        import os
        before = os.stat("f")
        open("f", "w").write("b")
        os.utime("f", ns=(before.st_atime_ns, before.st_mtime_ns))
      `,
      { files: { f: 'a' } },
    );
    expect(ran.files.get('f')?.toString()).toBe('b');
  });

  test.each(Object.entries(NAMES))('keep a name with %s', async (_name, path) => {
    const ran = await sandbox().run('import os\nopen(os.environ["NAME"], "w").write("x")\nNone', {
      env: { NAME: path },
    });
    expect([...ran.files.keys()]).toEqual([path]);
    await sandbox().client.reset(patience());
  });

  test('are never the code, whatever became of it', async () => {
    const ran = await sandbox().run(
      'import os\nopen("__main__.py", "a").write("#")\nos.mkdir("d")\nopen("d/__main__.py", "w").write("x")\nNone',
    );
    expect([...ran.files.keys()]).toEqual(['d/__main__.py']);
    await expectUnharmed(sandbox());
  });

  test('are those that have the name of another language’s code', async () => {
    const left = await sandbox().run('open("__main__.js", "w").write("x")\nNone');
    expect([...left.files.keys()]).toEqual(['__main__.js']);
    await sandbox().client.reset(patience());
    const bash = { language: 'bash', files: { '__main__.py': 'in' } } as const;
    const ran = await sandbox().run('cat __main__.py; echo out > __main__.py; echo x > __main__.sh', bash);
    expect([ran.stdout, [...ran.files.keys()]]).toEqual(['in', ['__main__.py']]);
    await sandbox().client.reset(patience());
  });

  test('are not those of the execution before', async () => {
    await sandbox().run('open("old", "w").write("x")');
    const ran = await sandbox().run('open("new", "w").write("x")');
    expect([...ran.files.keys()]).toEqual(['new']);
    await expectUnharmed(sandbox());
  });

  test('are none when none are asked for', async () => {
    const ran = await sandbox().run('open("f", "w").write("x")', { collect: false });
    expect(ran.files.size).toBe(0);
    await expectUnharmed(sandbox());
  });

  test('come also from a program that failed or was stopped', async () => {
    const failed = await sandbox().run('open("f", "w").write("x")\nraise ValueError');
    expect([...failed.files.keys()]).toEqual(['f']);
    const stopped = await sandbox().run('open("g", "w").write("x")\nimport time; time.sleep(60)', {
      timeoutMs: 400,
    });
    expect([...stopped.files.keys()]).toEqual(['g']);
    await expectUnharmed(sandbox());
  });

  test('do not follow links, pipes or devices out of the workspace', async () => {
    const ran = await sandbox().run(py`
      import os, socket
      os.symlink("/etc/passwd", "link")
      os.symlink("/etc", "dirlink")
      os.symlink(".", "loop")
      os.symlink("/dev/zero", "zero")
      os.symlink("missing", "dangling")
      os.mkfifo("fifo")
      socket.socket(socket.AF_UNIX).bind("socket")
      for kind in (0o020666, 0o060666):
          try: os.mknod("device%o" % kind, kind, os.makedev(1, 5))
          except OSError: pass
      open("plain", "w").write("x")
    `);
    expect([...ran.files.keys()]).toEqual(['plain']);
    expect(ran.result.outcome).toBe('exited');
    for (const { path } of ran.result.files_omitted) expect(path).not.toMatch(/^(dirlink|loop)\//);
    await expectUnharmed(sandbox());
  });

  test('do not follow a workspace that became a link', async () => {
    const ran = await sandbox().run(py`
      import os
      os.mkdir("d")
      open("d/f", "w").write("x")
      os.rename("d", "e")
      os.symlink("/etc", "d")
    `);
    expect([...ran.files.keys()]).toEqual(['e/f']);
    await expectUnharmed(sandbox());
  });

  test('are found in directories and files that nobody may read', async () => {
    const ran = await sandbox().run(py`
      import os
      os.makedirs("closed/inner")
      open("closed/inner/f", "w").write("x")
      open("unreadable", "w").write("y")
      os.chmod("unreadable", 0)
      os.chmod("closed/inner", 0)
      os.chmod("closed", 0)
    `);
    const named = new Set([...ran.files.keys(), ...ran.result.files_omitted.map(({ path }) => path)]);
    expect(named.has('unreadable')).toBe(true);
    expect([...named].some((path) => path.startsWith('closed'))).toBe(true);
    await expectUnharmed(sandbox());
  });

  test.each([0o000, 0o100, 0o200, 0o400, 0o500])(
    'are found where the workspace and a folder in it have mode %o at the end',
    async (mode) => {
      const ran = await sandbox().run(
        py`
        import os
        os.makedirs("folder/inner")
        for name in ("here", "folder/there", "folder/inner/deep"):
            open(name, "w").write(name)
        for path in ("folder/inner", "folder", "."):
            os.chmod(os.path.join(os.environ["TOP"], path), ${mode})
      `,
        { env: { TOP: sandbox().workspace } },
      );
      expect(ran.result).toMatchObject({ exit_code: 0, files_omitted: [] });
      expect([...ran.files.keys()].sort()).toEqual(['folder/inner/deep', 'folder/there', 'here']);
      await sandbox().client.reset(patience());
      await expectUnharmed(sandbox());
    },
  );

  test('whose name is no UTF-8 are named and break nothing', async () => {
    const ran = await sandbox().run(
      'import os\nopen(b"\\xff\\xfe", "w").write("x")\nopen("good", "w").write("y")\nNone',
    );
    expect(ran.files.has('good')).toBe(true);
    expect(ran.files.size + ran.result.files_omitted_count).toBe(2);
    await expectUnharmed(sandbox());
  });

  test('are a thousand; the rest is counted and named', async () => {
    const at = await sandbox().run('for n in range(1000): open(f"f{n}", "w").write(str(n))', {
      lastLine: false,
    });
    expect(at.files.size).toBe(1_000);
    expect(at.result.files_omitted_count).toBe(0);
    await expectUnharmed(sandbox());
    const past = await sandbox().run('for n in range(1001): open(f"f{n}", "w").write(str(n))', {
      lastLine: false,
    });
    expect(past.files.size).toBe(1_000);
    expect(past.result.files_omitted_count).toBe(1);
    expect(past.result.files_omitted).toEqual([
      { path: expect.stringMatching(/^f\d+$/), reason: expect.any(String) },
    ]);
    await expectUnharmed(sandbox());
  });

  test('that lie 1,000 directories deep break nothing', async () => {
    const ran = await sandbox().run(py`
      import os
      for n in range(1000):
          os.mkdir("d")
          os.chdir("d")
      open("f", "w").write("x")
      None
    `);
    expect(ran.result.outcome).toBe('exited');
    expect(ran.files.size + ran.result.files_omitted_count).toBe(1);
    await expectUnharmed(sandbox());
  });

  test('that lie deeper than a path can say break nothing', async () => {
    const ran = await sandbox().run(py`
      import os
      for n in range(3000):
          os.mkdir("directory")
          os.chdir("directory")
      open("f", "w").write("x")
      None
    `);
    expect(ran.result.outcome).toBe('exited');
    expect(ran.files.size).toBe(0);
    await expectUnharmed(sandbox());
  });

  test('omitted with long names still fit one frame', async () => {
    const ran = await sandbox().run(
      py`
        import os
        base = "/".join(["é" * 127] * 12)
        os.makedirs(base)
        for n in range(1200): open(base + "/" + "😀" * 50 + str(n), "w").close()
      `,
    );
    expect(ran.files.size).toBe(1_000);
    expect(ran.result.files_omitted_count).toBe(200);
    await expectUnharmed(sandbox());
  });
});

describeSandbox(
  'files collected',
  (sandbox) => {
    test('of 100,000 small ones are a thousand, in good time', async () => {
      const ran = await sandbox().run('for n in range(100_000): open(f"f{n}", "w").close()', {
        lastLine: false,
      });
      expect(ran.files.size).toBe(1_000);
      expect(ran.result.files_omitted_count).toBe(99_000);
      expect(ran.result.files_omitted.length).toBeLessThanOrEqual(100);
      await expectUnharmed(sandbox());
    });
  },
  { workspaceMount: 'size=512m,mode=1777' },
);

describeSandbox(
  'the bound on collected bytes',
  (sandbox) => {
    test('holds at the bound and one past it', async () => {
      const at = await sandbox().run('open("f", "wb").write(b"x" * 1_000_000)\nNone');
      expect(at.files.get('f')?.byteLength).toBe(1_000_000);
      await expectUnharmed(sandbox());
      const past = await sandbox().run(
        'open("f", "wb").write(b"x" * 1_000_001)\nopen("small", "w").write("s")\nNone',
      );
      expect([...past.files.keys()]).toEqual(['small']);
      expect(past.result.files_omitted).toEqual([{ path: 'f', reason: expect.any(String) }]);
      await expectUnharmed(sandbox());
    });

    test('holds for a sparse file of 10 TB, which is not read', async () => {
      const ran = await sandbox().run(
        'import os\nwith open("sparse", "wb") as f: os.truncate(f.fileno(), 10 << 40)\nopen("small", "w").write("s")\nNone',
      );
      expect(ran.stderr).toBe('');
      expect([...ran.files.keys()]).toEqual(['small']);
      expect(ran.result.files_omitted).toEqual([{ path: 'sparse', reason: expect.any(String) }]);
      await expectUnharmed(sandbox());
    });

    test('is no bound on what a program may have staged and left as it was', async () => {
      const ran = await sandbox().run('1', { files: { big: Buffer.alloc(2_000_000) } });
      expect(ran.result).toMatchObject({ files_omitted: [], files_omitted_count: 0 });
      await expectNext(sandbox());
    });
  },
  {
    config: {
      files_max_bytes: 1_000_000,
      limits: {
        memory_bytes: 256 * MIB,
        cpu_seconds: 20,
        processes: 64,
        open_files: 256,
        file_bytes: 2 ** 52,
      },
    },
  },
);
