"""A shell command of a session: an execution whose program the session's keeper starts, beside others."""

import os
import signal
import time

from podgate_runner import job
from podgate_runner.execution import INPUT, RUNNING, STARTING, Execution
from podgate_runner.limits import OPEN_SECONDS, START_SECONDS, STREAM_WINDOW_BYTES
from podgate_runner.output import Output
from podgate_runner.session_input import LiveSessionInput, SessionInput


class Command(Execution):
    staging_type = SessionInput

    def __init__(self, host, stream_id, request):
        super().__init__(host, stream_id, request)
        self.live = request["session"].get("input", False)
        if self.live:
            self.staging_type = LiveSessionInput

    def _start(self):
        host, staging = self.host, self._staging
        name, program = host.program("bash")
        arguments, extra = staging.script()
        environ = dict(host.environ, **staging.env)
        if self.request["traceparent"]:
            environ.setdefault("TRACEPARENT", self.request["traceparent"])
        self._spawn({
            "program": program,
            "argv": [name] + arguments,
            "environ": environ,
            "rlimits": job.rlimits(self.limits, host, program),
        }, extra)

    def _spawn(self, described, extra):
        host, stdin = self.host, self._staging.stdin
        self._memory = host.memory.begin()
        self._output = Output(self.outbox, self.limits, host.poller)
        read_fd = stdin.open()
        self.state = STARTING
        self.due = time.monotonic() + START_SECONDS
        try:
            self.place.spawn(described, [read_fd] + self._output.write_ends() + extra)
        except OSError:
            self.fail("runner_error", "The process that starts programs did not answer.", "no")
            return
        finally:
            for fd in [read_fd] + extra:
                os.close(fd)
            self._output.close_write_ends()
        if self.live:
            self._feed_live()
        elif stdin.write_fd >= 0:
            host.poller.write(stdin.write_fd, self._feed_stdin)

    # Input while it runs

    def _take_live(self, data):
        if self.live and self._staging is not None:
            self._staging.stdin.push(data)
            self._feed_live()

    def end_input(self):
        if self.live and self._staging is not None:
            self._staging.stdin.end()
            self._feed_live()

    def _feed_live(self):
        stdin, poller = self._staging.stdin, self.host.poller
        fd = stdin.write_fd
        stdin.feed()
        if stdin.waiting:
            poller.write(fd, self._feed_live)
        elif fd >= 0:
            poller.forget(fd)
        window = self._staging.total + stdin.taken + STREAM_WINDOW_BYTES
        if window - self._window >= STREAM_WINDOW_BYTES // 2:
            self._window = window
            self.outbox.window(window)

    def resume_input(self):
        if self.live:
            self.outbox.resumed(self._window, self._received)

    def on_begun(self, began, pid, warden):
        self.place.warden = warden
        self.on_started(began, pid, 0)

    def on_keeper_gone(self):
        """All that the keeper started ended with it."""
        if self.state in (INPUT, STARTING):
            self.fail("runner_error", "The process that starts programs ended.", "no")
        elif self.state == RUNNING:
            self.on_exit(signal.SIGKILL, None, time.monotonic())

    def signal(self, number):
        if self.state == RUNNING and not self._dying:
            self.place.signal(number)

    def _warn_cpu(self):
        self.place.signal(signal.SIGXCPU)


class Upload(SessionInput):
    """Of files alone: there is no code whose name could be taken."""

    def __init__(self, language, sizes):
        super().__init__(language, sizes)
        self.reserved = None


class FileWork(Command):
    """One request about files: they were staged with it, or a process of its own sees to them."""

    staging_type = Upload

    def stage_code(self, error):
        """What such a process would have said of the same workspace."""
        return {"no_room": "too_large", "in_the_way": "conflict"}.get(error.why, "stage_failed")

    def _start(self):
        limits = dict(self.limits, memory_bytes=self.host.config["limits"]["memory_bytes"])
        self._spawn({"files": self.request["session"]["files"], "rlimits": job.rlimits(limits, self.host, None)}, [])


class Opening(Execution):
    """The first piece of a session's work: its files are staged, its keeper is begun."""

    staging_type = SessionInput

    def _start(self):
        self.state = STARTING
        self.due = time.monotonic() + OPEN_SECONDS
        self._began = time.monotonic()
        self.host.begin_keeper()

    def on_keeper(self):
        if self.state != STARTING:
            return
        self.outbox.start()
        self._close({"result": done(time.monotonic() - self._began), "failure": None})

    def on_keeper_gone(self):
        if self.state in (INPUT, STARTING):
            self.fail("runner_error", "The process that starts programs ended.", "no")

    def tick(self, now):
        if self.state == STARTING:
            self.fail("runner_error", "The session did not begin in time.", "no")

    def cancel(self):
        if self.state in (INPUT, STARTING):
            self.fail("cancelled", "The execution was cancelled.", "no")

    def pump(self):
        pass


def done(seconds):
    return {
        "outcome": "exited",
        "exit_code": 0,
        "signal": None,
        "timed_out": False,
        "duration_ms": round(seconds * 1000),
        "cpu_ms": 0,
        "peak_memory_bytes": 0,
        "stdout_bytes": 0,
        "stderr_bytes": 0,
        "stdout_truncated": False,
        "stderr_truncated": False,
        "files_omitted": [],
        "files_omitted_count": 0,
    }
