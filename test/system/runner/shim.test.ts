import { execFileSync, spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { shimCommand } from '../../../agent/runner/bundle.ts';

/**
 * Asks who sent only when something has come, as gVisor does for every listener: it hands SO_PASSCRED on to nobody. The
 * shim's connection is taken before it says anything: else the kernel adds its credentials by itself.
 */
const LISTENER = `
import os, select, socket, struct, subprocess, sys
TAKEN_FIRST = """
import os, _socket
class TakenFirst(_socket.socket):
    def connect(self, address):
        super().connect(address)
        os.read(%d, 1)
_socket.socket = TakenFirst
"""
server = socket.socket(socket.AF_UNIX)
server.bind(b"\\0podgate-runner")
server.listen()
is_taken, say_taken = os.pipe()
*python, code = sys.argv[1:]
shim = subprocess.Popen([*python, TAKEN_FIRST % is_taken + code], stdin=subprocess.DEVNULL, pass_fds=[is_taken])
taken, _ = server.accept()
os.write(say_taken, b"t")
select.select([taken], [], [])
taken.setsockopt(socket.SOL_SOCKET, 16, 1)
_, ancillary, _, _ = taken.recvmsg(16, 256)
pids = [struct.unpack("3i", value)[0] for _, kind, value in ancillary if kind == 2]
taken.close()
shim.wait()
print(pids == [shim.pid])
`;

const GVISOR = ['runsc', '--platform=ptrace', '--network=none', 'do'];
const NAMESPACE = ['unshare', '-rn'];

function runs([file = '', ...rest]: string[]): boolean {
  return spawnSync(file, [...rest, 'true'], { stdio: 'ignore', timeout: 20_000 }).status === 0;
}

test.for([
  ['Linux', NAMESPACE],
  ['gVisor', GVISOR],
] as [string, string[]][])(
  'a shim in %s says who it is to a listener that asks late',
  ([name, place], context) => {
    context.skip(!runs(place), `nothing can be run in ${name} here`);
    const [file = '', ...rest] = place;
    const command = [...rest, 'python3', '-c', LISTENER, ...shimCommand('python3')];
    const said = execFileSync(file, command, {
      encoding: 'utf8',
      timeout: 30_000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    expect(said).toBe('True\n');
  },
);

const LATE_LISTENER = `
import socket, subprocess, sys
shim = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
server = socket.socket(socket.AF_UNIX)
server.bind(b"\\0podgate-runner")
server.listen()
taken, _ = server.accept()
message, ancillary, _, _ = taken.recvmsg(16, 256)
print(shim.stderr.readline().decode(), end="")
server.setblocking(False)
try: print(server.accept())
except BlockingIOError: print(message, len(ancillary))
taken.close()
shim.wait()
`;

test('a shim that is there before its runner waits for it, connects once, and says when it has handed its streams over', (context) => {
  context.skip(!runs(NAMESPACE), 'there can be no network namespace here');
  const [file = '', ...rest] = NAMESPACE;
  const command = [...rest, 'python3', '-c', LATE_LISTENER, ...shimCommand('python3')];
  const said = execFileSync(file, command, { encoding: 'utf8', timeout: 30_000 });
  expect(said).toBe("podgate-shim: there\nb's' 1\n");
});
