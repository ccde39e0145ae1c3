"""The runner's side of a Python that remembers."""

import array
import json
import math
import os
import _socket

from podgate_runner import job
from podgate_runner.limits import MAX_CONTEXT_LINE_BYTES
from podgate_runner.session_place import ProgramPlace


class ContextPlace(ProgramPlace):
    """Of a program that lives longer than one execution: only what it used since `begin` counts."""

    def __init__(self, place, keeper, program):
        super().__init__(place, keeper, program)
        self._before = 0.0
        # When the youngest of what was there at `begin` were born, and which they were.
        self._newest, self._there = 0, []

    def begin(self):
        tree = self.processes()
        self._before = 0.0
        self._before = self._used_by(tree)
        self._newest = max((process.born for process in tree), default=0)
        self._there = [process.pid for process in tree if process.born == self._newest]

    def used(self):
        return self._used_by(self.processes())

    def _used_by(self, tree):
        return self.waited_cpu() + sum(process.cpu + process.waited_cpu for process in tree)

    def sweep(self, ends):
        """The keeper says when all signals before it were sent, and, where it `ends` that, all that was started since `begin`
        has ended."""
        self._tell("sweep", self._newest if ends else math.inf, self._there)

    def waited_cpu(self):
        return super().waited_cpu() - self._before

    def final_cpu(self, cpu):
        return max(0.0, self.used()) if cpu is None else max(0.0, cpu - self._before)


class Context:
    """One interpreter. `work` is the execution that it runs, or None."""

    def __init__(self, host, program, place, lost):
        self.host = host
        self.program = program
        self.place = place
        self.pid = 0
        self.work = None
        self.alive = True
        # What an interpreter of this name remembered is gone, and nobody was told.
        self.lost = lost
        self._remembers = False
        self._line = b""
        self._sock = None

    def begin(self, limits):
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._sock = ours
        ours.setblocking(False)
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        described = {
            "python": True,
            "environ": {},
            "rlimits": [each for each in job.rlimits(limits, self.host, None) if each[0] != job.CPU],
        }
        try:
            self.place.spawn(described, [nothing, nothing, nothing, theirs.fileno()])
        finally:
            theirs.close()
            os.close(nothing)
        self.host.poller.read(ours.fileno(), self._hear)

    def on_begun(self, began, pid, warden):
        self.pid, self.place.warden = pid, warden
        if self.work is not None:
            self.work.on_context()

    def on_failed(self, sentence):
        if self.work is not None:
            self.work.on_failed(sentence)

    def on_swept(self, clean):
        if self.work is not None:
            self.work.on_swept(clean)

    def on_exit(self, status, cpu, ended):
        self.close()
        if self.work is not None:
            self.work.on_exit(status, cpu, ended)

    def on_keeper_gone(self):
        self.close()

    def give(self, asked, fds):
        self._remembers = True
        line = json.dumps(asked).encode() + b"\n"
        self._sock.sendmsg([line], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))])

    def settle(self):
        """Asks for an answer behind all signals that it was sent; `on_done` has it."""
        self._sock.sendall(b"{}\n")

    def told(self, dying):
        """`kept`, or `lost` where what was remembered went with this piece or before it; said once."""
        self._remembers = self.alive and not dying
        state = "kept" if self._remembers and not self.lost else "lost"
        self.lost = False
        return state

    def close(self):
        self.alive = False
        self.lost = self.lost or self._remembers
        if self._sock is not None:
            self.host.poller.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _hear(self):
        try:
            data = self._sock.recv(MAX_CONTEXT_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._line += data
        if not data or len(self._line) > MAX_CONTEXT_LINE_BYTES:
            # It closed the wire, or floods it: nothing more can be asked of it. Its end will be told. A program that it has
            # become, by exec, closed it too: that goes on within the limits of its piece.
            self.host.poller.forget(self._sock.fileno())
            if data or self.work is None:
                self.place.kill()
            return
        line, newline, rest = self._line.partition(b"\n")
        if not newline:
            return
        self._line = rest
        try:
            code = json.loads(line.decode("utf-8"))["code"]
            code = code if type(code) is int and 0 <= code < 256 else 1
        except (ValueError, TypeError, KeyError, RecursionError):
            code = 1
        if self.work is not None:
            self.work.on_done(code)
