import { arch } from 'node:os';
import { expect, test } from 'vitest';
import { describeSandbox, expectUnharmed, py } from './suite.ts';

/** Every attempt aims at the sandbox's own loopback: whatever fails here harms nothing. */
describeSandbox('without a network', (sandbox) => {
  test('no socket of any family but AF_UNIX can be made', async () => {
    const ran = await sandbox().run(py`
      import socket
      made = set()
      for family in range(0, 64):
          for kind in (1, 2, 3, 5):
              for protocol in (0, 1, 6, 17, 255):
                  try: socket.socket(family, kind, protocol).close(); made.add(family)
                  except OSError: pass
                  try:
                      for end in socket.socketpair(family, kind, protocol): end.close()
                      made.add(family)
                  except OSError: pass
      print(made)
    `);
    expect(ran.stdout).toBe('{1}\n');
    await expectUnharmed(sandbox());
  });

  test('what a program sees is an error like any other', async () => {
    const ran = await sandbox().run(py`
      import socket, urllib.request
      for action in (lambda: socket.create_connection(("127.0.0.1", 80), 1), lambda: urllib.request.urlopen("http://127.0.0.1:8000/"),
                     lambda: socket.getaddrinfo("localhost.", 80) and socket.create_connection(("localhost.", 80))):
          try: action(); print("reached")
          except OSError as error: print("refused")
    `);
    expect(ran.stdout).toBe('refused\nrefused\nrefused\n');
  });

  test('no name is asked for', async () => {
    const ran = await sandbox().run(py`
      import socket
      try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 53)); print("sent")
      except OSError: print("refused")
      try: print(socket.getaddrinfo("name.invalid", 80))
      except OSError: print("refused")
    `);
    expect(ran.stdout).toBe('refused\nrefused\n');
  });

  test('the shell and Node are refused as well', async () => {
    const bash = await sandbox().run(
      'exec 3<>/dev/tcp/127.0.0.1/80 && echo reached; exec 3<>/dev/udp/127.0.0.1/53 && echo reached',
      {
        language: 'bash',
      },
    );
    expect(bash.stdout).toBe('');
    const viaPython = await sandbox().run(
      'import subprocess, sys\nprint(subprocess.run([sys.executable, "-c", "import socket; socket.socket()"], capture_output=True).returncode)',
    );
    expect(viaPython.stdout).toBe('1\n');
  });

  test('local sockets and pairs work', async () => {
    const ran = await sandbox().run(py`
      import asyncio, socket
      a, b = socket.socketpair()
      a.send(b"pair")
      print(b.recv(4))
      server = socket.socket(socket.AF_UNIX); server.bind("/tmp/s"); server.listen()
      client = socket.socket(socket.AF_UNIX); client.connect("/tmp/s"); client.send(b"path")
      print(server.accept()[0].recv(4))
      asyncio.run(asyncio.sleep(0))
    `);
    expect(ran.stdout).toBe("b'pair'\nb'path'\n");
    await expectUnharmed(sandbox());
  });

  test('io_uring, which would make sockets unseen, is refused', async () => {
    const ran = await sandbox().run(py`
      import ctypes
      libc = ctypes.CDLL(None, use_errno=True)
      for number in (425, 426, 427): print(libc.syscall(number, 1, ctypes.create_string_buffer(256), 0, 0, 0, 0))
    `);
    expect(ran.stdout).toBe('-1\n-1\n-1\n');
  });

  test.skipIf(arch() !== 'x64')('the calls of a foreign ABI are refused (x86-64 only)', async () => {
    const call = (machineCode: string) =>
      sandbox().run(py`
        import ctypes, mmap
        code = bytes.fromhex("${machineCode}")
        area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        area.write(code)
        value = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(area)))()
        print("made" if value >= 0 else "refused")
      `);
    // mov eax, 359; mov ebx, 2; mov ecx, 1; xor edx, edx; int 0x80; ret: socket(AF_INET, SOCK_STREAM, 0) of i386.
    // ebx is kept across the call as the ABI asks.
    const i386 = await call('53b867010000bb02000000b90100000031d2cd805bc3');
    // mov eax, 0x40000029; mov edi, 2; mov esi, 1; xor edx, edx; syscall; ret: the same of x32.
    const x32 = await call('b829000040bf02000000be0100000031d20f05c3');
    for (const ran of [i386, x32]) expect(ran.stdout).not.toContain('made');
    await expectUnharmed(sandbox());
  });

  test('the filter is there in every child and cannot be taken off', async () => {
    const ran = await sandbox().run(py`
      import subprocess, sys
      code = "print(open('/proc/self/status').read().split('Seccomp:')[1].split()[0])"
      print(subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, start_new_session=True).stdout.strip())
    `);
    expect(ran.stdout).toBe('2\n');
  });
});

describeSandbox(
  'with a network in the template',
  (sandbox) => {
    test('sockets can be made, and the runner is still closed', async () => {
      const ran = await sandbox().run(py`
        import os, socket
        print(socket.socket().family == socket.AF_INET, socket.socket(socket.AF_INET6).family == socket.AF_INET6)
        try: os.kill(os.getppid(), 9)
        except OSError: print("refused")
      `);
      expect(ran.stdout).toBe('True True\nrefused\n');
      await expectUnharmed(sandbox());
    });
  },
  { config: { network: true } },
);
