"""One piece of code in a Python that remembers: an execution."""

import os
import signal
import time

from podgate_runner.execution import RUNNING, STARTING
from podgate_runner.limits import CROWD_SHARE, INTERRUPT_SECONDS, KILL_SECONDS, START_SECONDS
from podgate_runner.output import Output
from podgate_runner.results_out import ResultsOut, memory_file
from podgate_runner.session_command import Command


class PythonWork(Command):
    """Code in a context. At its time it is interrupted, and what it started is ended. Only what does not heed that is killed,
    and its context with it; so is one with more than half of what may live there."""

    def __init__(self, host, stream_id, request, context):
        super().__init__(host, stream_id, request)
        self.context = context
        context.work = self
        self._interrupted_until = None
        self._heeded = None
        # Somebody sent it signals.
        self._signalled = False
        # All that was sent to the interpreter has arrived, and it was asked whether it took it.
        self._settling = False
        self._results_fd = -1

    def _start(self):
        host = self.host
        self._memory = host.memory.begin()
        self._output = Output(self.outbox, self.limits, host.poller, unheard=host.unheard)
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
        code_fd = memory_file(self._staging.take_code())
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
        if self.state != RUNNING or self._dying:
            return
        if self._heeded is not None:
            if self._settling:
                self.on_exit(*self._heeded)
            return
        now = time.monotonic()
        interrupted = self._interrupted_until is not None
        if not interrupted and not self._signalled:
            self.on_exit(code << 8, None, now)
            return
        # An interrupt that is still on its way is this piece's: the next one is not begun before it has arrived.
        self._heeded = (code << 8, None, now)
        self.due = self._interrupted_until = now + KILL_SECONDS
        self.place.sweep(ends=interrupted)

    def on_swept(self, clean):
        if self.state != RUNNING or self._dying or self._heeded is None:
            return
        if not clean:
            super().kill(self._killed_for)
            return
        self._settling = True
        try:
            self.context.settle()
        except OSError:
            self.place.kill()

    def signal(self, number):
        self._signalled = True
        super().signal(number)

    def _finish(self, verdict):
        status = self._ended[0]
        has_heeded = os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGINT
        if verdict is None and self._killed_for and self._interrupted_until is not None and has_heeded:
            if self._killed_for == "cpu_limit":
                verdict = ("cpu_limit", 128 + signal.SIGXCPU, signal.SIGXCPU)
            else:
                verdict = (self._killed_for, None, os.WTERMSIG(status) or None)
        super()._finish(verdict)

    def _describe(self, body):
        body["context"] = self.context.told(self._dying)
        return body

    def kill(self, reason):
        if reason == "memory_limit" or reason == "output_limit":
            super().kill(reason)
            return
        if self._interrupted_until is not None:
            # It is given its time to heed that, however often it is cancelled. Who cancels takes no more of it.
            if reason == "cancelled":
                self._killed_for = reason
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
