import { expect, test } from 'vitest';
import { createFrameWriter } from '../../../agent/runner/frame-stream.ts';
import { TYPE } from '../../../shared/frame-type.ts';
import { createSandbox, type Sandbox } from '../../fakes/runner-process.ts';
import { describePython, expectUnharmed, patience, py } from './suite.ts';

/** More than the runner listens to at once. */
const MANY = 8;

/** What a process does that entered from outside: as no Landlock confines it, its children do what user code may elsewhere. */
const CONNECTING = py`
  import array, os, socket, struct, time
  def connected():
      client = socket.socket(socket.AF_UNIX)
      client.connect("\0podgate-runner")
      client.settimeout(3)
      return client
  def hand_over(client, fds):
      rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
      client.sendmsg([b"s"], rights)
  def end_of(client):
      try: return client.recv(1)
      except ConnectionResetError: return b""
  body = b'{"epoch":9,"offsets":{}}'
  attach = struct.pack(">IIBBBBIQ", len(body), 9, 1, 0x40, 0, 0, 0, 1) + body
`;

describePython('a runner that waits for streams', (python) => {
  const create = () => createSandbox({ python, config: { attach: 'socket' } });

  async function expectAttachable(sandbox: Sandbox): Promise<void> {
    expect(await sandbox.attach(2).ready).toMatchObject({ ok: true, epoch: 2 });
    expect((await sandbox.run('print("still here")')).stdout).toBe('still here\n');
    await expectUnharmed(sandbox);
  }

  test('takes none that a child sends over what its parent, from outside, has connected', async () => {
    await using sandbox = await create();
    const said = await sandbox.neighbour(
      `${CONNECTING}\n${py`
      client, (ours, theirs) = connected(), socket.socketpair()
      pid = os.fork()
      if pid == 0:
          hand_over(client, [theirs.fileno()] * 2)
          os._exit(0)
      os.waitpid(pid, 0)
      theirs.close()
      ours.settimeout(3)
      try: ours.sendall(attach)
      except OSError: pass
      print(end_of(client), end_of(ours))
    `}`,
    );
    expect(said).toBe("b'' b''\n");
    await expectAttachable(sandbox);
  });

  test.each([0, 1])('takes none of %i descriptors', async (count) => {
    await using sandbox = await create();
    const said = await sandbox.neighbour(
      `${CONNECTING}\n${py`
      client, (ours, theirs) = connected(), socket.socketpair()
      hand_over(client, [theirs.fileno()] * ${count})
      print(end_of(client))
    `}`,
    );
    expect(said).toBe("b''\n");
    await expectAttachable(sandbox);
  });

  test('lets go of one that is no stream: an exec without standard input hands a file over', async () => {
    await using sandbox = await create();
    const said = await sandbox.neighbour(
      `${CONNECTING}\n${py`
      client, nothing = connected(), open("/dev/null", "rb+")
      hand_over(client, [nothing.fileno()] * 2)
      print(end_of(client))
    `}`,
    );
    expect(said).toBe("b''\n");
    await expectAttachable(sandbox);
  });

  test('is reached while children of whoever entered hold all the connections they get', async () => {
    await using sandbox = await create();
    await sandbox.neighbour(
      `${CONNECTING}\n${py`
      reading, writing = os.pipe()
      if os.fork() == 0:
          held = [connected() for _ in range(${MANY})]
          os.closerange(0, 3)
          os.write(writing, b"+")
          time.sleep(60)
      os.read(reading, 1)
    `}`,
    );
    await expectAttachable(sandbox);
  });

  test('holds few connections that say nothing, also of who comes from outside', async () => {
    await using sandbox = await create();
    const said = await sandbox.neighbour(
      `${CONNECTING}\n${py`
      import select
      held = [connected() for _ in range(${MANY})]
      closed = set()
      until = time.monotonic() + 3
      while len(closed) < ${MANY} // 2 and time.monotonic() < until:
          closed.update(select.select(held, [], [], 0.1)[0])
      print(len(closed), {end_of(client) for client in closed})
    `}`,
    );
    expect(said).toBe(`${MANY / 2} {b''}\n`);
    await expectAttachable(sandbox);
  });

  test('gives none the place of a newer one', async () => {
    await using sandbox = await create();
    await expectAttachable(sandbox);
    await expect(sandbox.attach(2).ready).rejects.toThrow();
    await expect(sandbox.attach(1).ready).rejects.toThrow();
    expect(await sandbox.attach(3).ready).toMatchObject({ ok: true, epoch: 3 });
    await expectUnharmed(sandbox);
  });

  test('passes over what is of another epoch', async () => {
    await using sandbox = await create();
    const body = Buffer.from(JSON.stringify({ id: 1 }));
    createFrameWriter(7, sandbox.stream).send({ type: TYPE.PING, channel: 0, stream: 0, sequence: 2, body });
    expect(await sandbox.client.ping(patience())).toMatchObject({ processes: 0 });
    await expectUnharmed(sandbox);
  });
});
