import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { TERMINATION_PATH } from '../../../agent/backends/kubernetes/pod-spec.ts';
import { describeSandbox, expectUnharmed, filesIn, patience, py } from './suite.ts';

describeSandbox('RESET', (sandbox) => {
  test('leaves nothing in the workspace and the scratch places', async () => {
    await sandbox().run(
      py`
        import os
        for place in (".", "/tmp", "/dev/shm"):
            os.makedirs(place + "/d/e")
            open(place + "/.hidden", "w").write("x")
            open(place + "/d/e/" + "n" * 255, "w").write("x")
            open(place + "/a\nb", "w").write("x")
            open(os.fsencode(place) + b"/\xff", "w").write("x")
            os.symlink("/etc", place + "/link")
            os.mkfifo(place + "/fifo")
            os.link(place + "/.hidden", place + "/hard")
      `,
      { collect: false },
    );
    expect((await filesIn(sandbox())).length).toBeGreaterThan(20);
    await expectUnharmed(sandbox());
  });

  test.each([0o000, 0o100, 0o200, 0o400, 0o500])(
    'leaves nothing of directories that have mode %o',
    async (mode) => {
      await sandbox().run(
        py`
        import os
        for place in (".", "/tmp", "/dev/shm"):
            os.makedirs(place + "/a/b/c")
            for path in ("/a/b/c/f", "/a/b/f", "/a/f"): open(place + path, "w").write("x")
            for path in ("/a/b/c", "/a/b", "/a"): os.chmod(place + path, ${mode})
      `,
        { collect: false },
      );
      await expectUnharmed(sandbox());
    },
  );

  test('is not held up by the names that it moves directories to', async () => {
    await sandbox().run(
      py`
        import os
        for place in (".", "/tmp", "/dev/shm"):
            for n in range(1, 20): open(place + "/.podgate-wipe-%d" % n, "w").close()
            for n in range(20, 40): os.makedirs(place + "/.podgate-wipe-%d/d/e" % n)
            for name in "abcdefgh": os.makedirs(place + "/" + name + "/d/e")
      `,
      { collect: false },
    );
    await expectUnharmed(sandbox());
  });

  test('leaves no room taken by files without a name in sockets that hold each other', async () => {
    const used = py`
      import os
      for place in (".", "/tmp", "/dev/shm"):
          size = os.statvfs(place)
          print(size.f_blocks - size.f_bfree, size.f_files - size.f_ffree)
    `;
    const hold = py`
      import os, socket
      for place in (".", "/tmp", "/dev/shm"):
          with open(place + "/large", "wb") as file:
              file.write(b"x" * (1 << 20))
              ends = socket.socketpair()
              for end in ends: socket.send_fds(end, [b"x"], [file.fileno()] + [each.fileno() for each in ends])
          os.unlink(place + "/large")
    `;
    const before = await sandbox().run(used);
    // Whoever closes a socket anywhere on this machine has the kernel look, too.
    for (let n = 0; n < 5; n += 1) {
      await sandbox().run(hold);
      expect(await sandbox().client.reset(patience())).toEqual({ ok: true, leftovers: [] });
      expect((await sandbox().run(used)).stdout).toBe(before.stdout);
    }
    await expectUnharmed(sandbox());
  });

  test('leaves no name bound by a socket that waits in its own queue', async () => {
    // Whoever closes a socket anywhere on this machine has the kernel look, too.
    for (let n = 0; n < 5; n += 1) {
      await sandbox().run(py`
        import socket
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); end.bind("\0kept"); end.connect("\0kept")
        socket.send_fds(end, [b"x"], [end.fileno()])
      `);
      expect(await sandbox().client.reset(patience())).toEqual({ ok: true, leftovers: [] });
      const ran = await sandbox().run('print("@kept" in open("/proc/net/unix").read())');
      expect(ran.stdout).toBe('False\n');
    }
  });

  test('does not follow links out of what it empties', async () => {
    await sandbox().run(
      'import os\nos.mkdir("/tmp/d")\nos.symlink("/proc/self", "/tmp/d/l")\nos.symlink("/usr", "u")\nNone',
    );
    await expectUnharmed(sandbox());
    const ran = await sandbox().run('import os\nprint(os.path.isdir("/usr/bin"))');
    expect(ran.stdout).toBe('True\n');
  });

  test.for([
    ['closed', 'os.chmod(".", 0)'],
    ['read-only', 'os.chmod(".", 0o555)'],
    ['left', 'os.chdir("/")'],
    ['given attributes', 'os.setxattr(".", "user.left", b"x")'],
    ['given attributes and closed', 'os.setxattr(".", "user.left", b"x"); os.chmod(".", 0)'],
    // Of the owner's too, where no security module has it for its own.
    ['given a label', 'os.setxattr(".", "security.selinux", b"x")'],
    [
      'given a default access list',
      'os.setxattr(".", "system.posix_acl_default", bytes.fromhex("0200000001000700ffffffff04000700ffffffff20000700ffffffff"))',
    ],
    ['full of open files', 'held = [open(f"f{n}", "w") for n in range(100)]'],
  ] as const)('copes with a workspace that was %s', async ([, code], { skip }) => {
    const ran = await sandbox().run(`import os\n${code}\nNone`);
    skip(/Errno 95/.test(ran.stderr), 'a tmpfs has no attributes of users before Linux 6.6');
    skip(/PermissionError/.test(ran.stderr), 'labels are a security module’s here');
    expect(ran.stderr).toBe('');
    expect(await sandbox().client.reset(patience())).toEqual({ ok: true, leftovers: [] });
    await expectUnharmed(sandbox());
    const { stdout } = await sandbox().run(
      'import os\nprint(oct(os.stat(".").st_mode), os.listxattr("."), os.getcwd())',
    );
    expect(stdout).toBe('0o41777 [] /srv\n');
  });

  test('leaves nothing in the times, flags and hints of the directories themselves', async () => {
    const told = py`
      import array, fcntl, os, time
      for place in (".", "/tmp", "/dev/shm"):
          fd, flags = os.open(place, os.O_RDONLY), array.array("l", [0])
          told = [time.time() - at < 600 for at in (os.stat(fd).st_atime, os.stat(fd).st_mtime)]
          for ask in (lambda: fcntl.ioctl(fd, 0x80086601, flags), lambda: told.append(fcntl.fcntl(fd, 1035, bytes(8))[0])):
              try: ask()
              except OSError: pass  # A kernel or file system without.
          print(place, flags[0], told)
    `;
    const before = await sandbox().run(told);
    expect(before.stdout).toMatch(/^\. 0 \[True, True/);
    const ran = await sandbox().run(py`
      import array, fcntl, os
      for place in (".", "/tmp", "/dev/shm"):
          fd = os.open(place, os.O_RDONLY)
          # No dump, no access times; a file that is extremely long-lived.
          for leave in (lambda: fcntl.ioctl(fd, 0x40086602, array.array("l", [0xc0])), lambda: fcntl.fcntl(fd, 1036, bytes([5] + [0] * 7))):
              try: leave()
              except OSError: pass
          os.utime(fd, (1, 1))
          print(int(os.stat(place).st_atime))
    `);
    expect(ran.stdout).toBe('1\n1\n1\n');
    await expectUnharmed(sandbox());
    expect((await sandbox().run(told)).stdout).toBe(before.stdout);
  });

  test('takes directories 2,000 deep away', async () => {
    await sandbox().run('import os\nfor n in range(2000): os.mkdir("directory"); os.chdir("directory")', {
      collect: false,
    });
    await expectUnharmed(sandbox());
  });

  test('twice in a row is as good as once', async () => {
    for (let n = 0; n < 2; n += 1) {
      expect(await sandbox().client.reset(patience())).toEqual({ ok: true, leftovers: [] });
    }
    await expectUnharmed(sandbox());
  });

  test('leaves no System V segment, and none is hidden', async () => {
    const ran = await sandbox().run(py`
      import ctypes
      libc = ctypes.CDLL(None, use_errno=True)
      print(libc.shmget(0x1234, 4096, 0o1600) >= 0, libc.semget(0x1234, 1, 0o1600) >= 0, libc.msgget(0x1234, 0o1600) >= 0)
    `);
    expect(ran.stdout).toMatch(/^(True|False) (True|False) (True|False)\n$/);
    await expectUnharmed(sandbox());
  });

  test('leaves no POSIX queue, or says that it does', async () => {
    const ran = await sandbox().run(py`
      import ctypes
      libc = ctypes.CDLL("librt.so.1", use_errno=True)
      print(libc.mq_open(b"/left", 0o102, 0o600, None))
    `);
    const { ok } = await sandbox().client.reset(patience());
    if (ran.stdout === '-1\n') expect(ok).toBe(true);
    const again = await sandbox().run('import ctypes\nctypes.CDLL("librt.so.1").mq_open(b"/left", 0o2)');
    expect(again.stdout === '-1\n' || ok === false).toBe(true);
  });

  test('leaves no abstract socket and no key behind', async () => {
    await sandbox().run(py`
      import ctypes, os, platform, socket
      server = socket.socket(socket.AF_UNIX); server.bind("\0left"); server.listen()
      libc = ctypes.CDLL(None, use_errno=True)
      number = {"x86_64": 248, "aarch64": 217}[platform.machine()]
      libc.syscall(number, b"user", b"left", b"secret", 6, -4)
      if os.fork() == 0: os.setsid(); import time; time.sleep(60)
    `);
    await sandbox().client.reset(patience());
    const ran = await sandbox().run(py`
      import ctypes, platform, socket
      libc = ctypes.CDLL(None, use_errno=True)
      number = {"x86_64": 249, "aarch64": 218}[platform.machine()]
      try: socket.socket(socket.AF_UNIX).connect("\0left"); print("reached")
      except OSError: print("gone")
      print(libc.syscall(number, b"user", b"left", None, 0) < 0)
    `);
    expect(ran.stdout).toBe('gone\nTrue\n');
  });
});

/**
 * Queues and the termination log as a container engine mounts them: writable for all, in a /root that is open. No program
 * may make a System V object; what made one all the same leaves none.
 */
test('a reset removes queues, System V objects and the termination log’s text, and says what it cannot remove', () => {
  const runner = new URL('../../../agent/runner', import.meta.url).pathname;
  const script = `
set -e
PATH=$PATH:/usr/sbin:/sbin
mount -t tmpfs srv /srv
mount -t tmpfs tmp /tmp
mount -t tmpfs dev /dev
mount -t tmpfs root /root
mkdir /dev/mqueue
mount -t mqueue queues /dev/mqueue
exec /usr/bin/python3 -B -c "$CODE"`;
  const code = `
import ctypes, os, sys
sys.path.insert(0, ${JSON.stringify(runner)})
from podgate_runner.reset import reset
class Place:
    sockets = 0
    modes = attributes = inodes = {}
    kill = processes = lambda self: []
config = {'workspace': '/srv', 'scratch': ['/tmp'], 'proc_root': '/proc'}
assert os.getpid() == 1
def objects():
    return sum(len(open('/proc/sysvipc/' + kind).readlines()) - 1 for kind in ('shm', 'sem', 'msg'))
open('/dev/mqueue/left', 'x').close()
libc = ctypes.CDLL(None)
libc.shmget(1, 4096, 0o1600), libc.semget(1, 1, 0o1600), libc.msgget(1, 0o1600)
made = objects()
log = '${TERMINATION_PATH}'
open(log, 'w').write('text')
print(reset(Place(), config), os.listdir('/dev/mqueue'), made, objects(), os.path.getsize(log))
# A mount point cannot be removed, nor can what is read-only be cut.
open('/dev/mqueue/held', 'x').close()
open(log, 'w').write('text')
os.mkdir('/srv/held')
os.system('mount -t tmpfs held /srv/held; mount --bind /proc/self/comm /dev/mqueue/held; mount --bind %s %s; mount -o remount,bind,ro %s' % (log, log, log))
print(reset(Place(), config))
`;
  const namespaces = ['--user', '--map-root-user', '--mount', '--ipc', '--pid', '--fork', '--mount-proc'];
  const { stdout, stderr } = spawnSync('unshare', [...namespaces, '--kill-child', 'sh', '-c', script], {
    env: { PATH: process.env.PATH ?? '', CODE: code },
    encoding: 'utf8',
  });
  expect(stdout + stderr).toBe(
    `[] [] 3 0 0\n['files in /srv', "queue 'held'", 'text in ${TERMINATION_PATH}']\n`,
  );
});
