"""The runner's side of a Python that remembers, and one execution in it."""

import array
import json
import os
import signal
import time
import _socket

from podgate_runner import job
from podgate_runner.execution import RUNNING, STARTING
from podgate_runner.limits import CROWD_SHARE, INTERRUPT_SECONDS, KILL_SECONDS, MAX_CONTEXT_LINE_BYTES, START_SECONDS
from podgate_runner.output import Output
from podgate_runner.results_out import ResultsOut, memory_file
from podgate_runner.session_command import Command
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

    def sweep(self):
        """Has all that was started since `begin` ended; the keeper says when."""
        self._keeper(("sweep", self._program, self._newest, self._there))

    def waited_cpu(self):
        return super().waited_cpu() - self._before

    def final_cpu(self, cpu):
        return max(0.0, self.used()) if cpu is None else max(0.0, cpu - self._before)


class Context:
    """One interpreter. `work` is the execution that it runs, or None."""

    def __init__(self, host, program, place):
        self.host = host
        self.program = program
        self.place = place
        self.pid = 0
        self.work = None
        self.alive = True
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
        line = json.dumps(asked).encode() + b"\n"
        self._sock.sendmsg([line], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))])

    def close(self):
        self.alive = False
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
            # It closed the wire, or floods it: nothing more can be asked of it. Its end will be told.
            self.host.poller.forget(self._sock.fileno())
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


class PythonWork(Command):
    """Code in a context. At its time it is interrupted, and what it started is ended. Only what does not heed that is killed,
    and its context with it; so is one with more than half of what may live there."""

    def __init__(self, host, stream_id, request, context):
        super().__init__(host, stream_id, request)
        self.context = context
        context.work = self
        self._interrupted_until = None
        self._heeded = None
        self._results_fd = -1

    def _start(self):
        host = self.host
        self._memory = host.memory.begin()
        self._output = Output(self.outbox, self.limits, host.poller)
        self.state = STARTING
        self.due = time.monotonic() + START_SECONDS
        if self.context.pid:
            self.on_context()

    def on_context(self):
        """The interpreter is there and waits."""
        if self.state != STARTING:
            return
        host, stdin = self.host, self._staging.stdin
        read_fd = stdin.open()
        code_fd = memory_file(self._staging.code)
        self._results_fd = os.memfd_create("results")
        asked = {"interactive": self.request["last_line_interactive"], "rich": self.request["session"]["rich"]}
        fds = [read_fd] + self._output.write_ends() + [code_fd, self._results_fd]
        self.place.begin()
        try:
            self.context.give(asked, fds)
        except OSError:
            self.place.kill()
        finally:
            os.close(read_fd)
            os.close(code_fd)
            self._output.close_write_ends()
        self.on_started(time.monotonic(), self.context.pid, 0)
        if self.live:
            self._feed_live()
        elif stdin.write_fd >= 0:
            host.poller.write(stdin.write_fd, self._feed_stdin)

    def on_done(self, code):
        """It ran to its end, or heeded the interrupt."""
        if self.state != RUNNING or self._dying or self._heeded is not None:
            return
        now = time.monotonic()
        if self._interrupted_until is None:
            self.on_exit(code << 8, None, now)
            return
        self._heeded = (code << 8, None, now)
        self.due = self._interrupted_until = now + KILL_SECONDS
        try:
            self.place.sweep()
        except OSError:
            pass  # What starts programs is gone: their end comes by itself.

    def on_swept(self, clean):
        if self.state != RUNNING or self._dying or self._heeded is None:
            return
        if clean:
            self.on_exit(*self._heeded)
        else:
            super().kill(self._killed_for)

    def _finish(self, verdict):
        if verdict is None and self._interrupted_until is not None and os.WIFEXITED(self._ended[0]):
            if self._killed_for == "cpu_limit":
                verdict = ("cpu_limit", 128 + signal.SIGXCPU, signal.SIGXCPU)
            else:
                verdict = (self._killed_for, None, None)
        super()._finish(verdict)

    def _describe(self, body):
        body["context"] = "kept" if self.context.alive and not self._dying else "lost"
        return body

    def kill(self, reason):
        if reason == "memory_limit" or reason == "output_limit" or self._interrupted_until is not None:
            super().kill(reason)
            return
        self._killed_for = reason
        self._interrupt()

    def _warn_cpu(self):
        self._interrupt()

    def _interrupt(self):
        if len(self.place.processes()) > self.host.config["limits"]["processes"] * CROWD_SHARE:
            super().kill(self._killed_for)
            return
        self._interrupted_until = time.monotonic() + INTERRUPT_SECONDS
        self.due = self._interrupted_until
        self.place.signal(signal.SIGINT)

    def tick(self, now):
        if self.state == RUNNING and self._interrupted_until is not None and not self._dying:
            if now >= self._interrupted_until:
                super().kill(self._killed_for)
        else:
            super().tick(now)

    def _collect(self):
        if self._results_fd < 0 or self._killed_for == "cancelled":
            return None
        return ResultsOut(self.outbox, self._results_fd)

    def _close(self, body):
        super()._close(body)
        if self.context.work is self:
            self.context.work = None
        if self._results_fd >= 0:
            os.close(self._results_fd)
            self._results_fd = -1
