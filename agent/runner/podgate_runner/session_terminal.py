"""An interactive terminal of a session: a shell on a pseudo-terminal that the session's keeper opened in its own place."""

import os
import time

from podgate_runner import job, terminal_device
from podgate_runner.execution import STARTING
from podgate_runner.limits import START_SECONDS
from podgate_runner.output import Output
from podgate_runner.outbox import STDERR, STDOUT
from podgate_runner.session_command import Command

_DEFAULT_TERM = "xterm-256color"


class _Screen:
    """Where output comes from: the master, once it is there. Nothing comes as stderr."""

    def __init__(self, channel):
        self.channel = channel
        self.read_fd = -1
        self.counted = 0
        self.ended = True


class TerminalOutput(Output):
    def __init__(self, outbox, limits, poller):
        super().__init__(outbox, limits, poller, (_Screen(STDOUT), _Screen(STDERR)))
        # Held open, so that a program that closes its terminal and goes on hangs nothing up.
        self._slave = -1

    def use(self, master, slave):
        os.set_blocking(master, False)
        self.stdout.read_fd, self.stdout.ended, self._slave = master, False, slave

    def _take(self, fd, count):
        try:
            return os.read(fd, count)
        except BlockingIOError:
            # Whoever else in the session has it open keeps it from ending; nothing more is the terminal's.
            if self._draining:
                return b""
            raise
        except OSError:
            return b""

    def drain(self):
        self._let_go()
        super().drain()

    def give_up(self):
        self._let_go()
        self._draining = True
        super().give_up()

    def _let_go(self):
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1


class Terminal(Command):
    """Its limits are those of a command, but that processor time is counted for each program and not for all."""

    def __init__(self, host, stream_id, request):
        request["session"]["input"] = True
        super().__init__(host, stream_id, request)
        self._master = -1

    def _start(self):
        host, asked = self.host, self.request["session"]
        name, program = host.program("bash")
        described = {
            "program": program,
            "argv": [name],
            "environ": dict({"TERM": _DEFAULT_TERM}, **dict(host.environ, **self._staging.env)),
            "rlimits": job.rlimits(self.limits, host, program),
            "terminal": [asked["rows"], asked["columns"]],
        }
        self.limits = dict(self.limits, cpu_seconds=float("inf"))
        self._memory = host.memory.begin()
        self._output = TerminalOutput(self.outbox, self.limits, host.poller)
        self.state = STARTING
        self.due = time.monotonic() + START_SECONDS
        try:
            self.place.spawn(described, [])
        except OSError:
            self.fail("runner_error", "The process that starts programs did not answer.", "no")

    def on_terminal(self, master, slave):
        self._master = master
        self._output.use(master, slave)
        self._staging.stdin.use(os.dup(master))
        self._feed_live()

    def on_refused(self, code, sentence):
        if self.state == STARTING:
            self.fail(code, sentence, "no")

    def resize(self, rows, columns):
        if self._output is not None and not self._output.stdout.ended:
            terminal_device.set_size(self._master, rows, columns)

    def end_input(self):
        """A terminal has no end of input but what is typed."""
