"""One execution, from START to EXIT: start, limits, end, files. No method waits, but for
the end of what it kills, KILL_SECONDS at most."""

import os
import signal
import time

from podgate_runner import job
from podgate_runner.files_out import FilesOut
from podgate_runner.intake import COLLECTING, DRAINING, ENDED, INPUT, RUNNING, STARTING, Intake
from podgate_runner.limits import CPU_GRACE_SECONDS, DRAIN_SECONDS, KILL_SECONDS, START_SECONDS
from podgate_runner.output import Output
from podgate_runner.verdict import judge, verdict_body
from podgate_runner.watch import Watch


class Execution(Intake):
    """One execution of `host`, as Intake has it."""

    def __init__(self, host, stream_id, request):
        super().__init__(host, stream_id, request)
        self.limits = job.lowered(request["limits"], host.config["limits"])
        self.due = None
        self._output = None
        self._watch = None
        self._files = None
        self._killed_for = None
        self._failure = None
        self._ended = None
        self._cpu_hard_at = None
        self._dying = False
        self._looked = False
        self.main_pid = 0

    def _start(self):
        host, stdin = self.host, self._staging.stdin
        host.mains.add(self._staging.main_name.encode())
        self._memory = host.memory.begin()
        host.reaper.begin()
        self._output = Output(self.outbox, self.limits, host.poller)
        read_fd = stdin.open()
        message, extra = self._job()
        self.state = STARTING
        self.due = time.monotonic() + START_SECONDS
        try:
            self.place.waiting = False
            self.place.link.send(("run", message), [read_fd] + self._output.write_ends() + extra)
        except OSError:
            self.fail("runner_error", "The process that starts programs did not answer.", "no")
        finally:
            os.close(read_fd)
            self._output.close_write_ends()
        if stdin.write_fd >= 0:
            host.poller.write(stdin.write_fd, self._feed_stdin)

    def _job(self):
        """What to run, and descriptors that it needs beside its standard streams."""
        return job.describe(self.request, self.limits, self._staging, self.host), []

    # What the zygote says

    def on_failed(self, sentence):
        self._failure = ("runner_error", "The program could not be started: " + sentence, "no")

    def on_started(self, began, inner_pid, outer_pid):
        if self.state != STARTING:
            return
        self.state = RUNNING
        if self._killed_for:
            self.place.kill()
        self._began, self._inner_pid, self.main_pid = began, inner_pid, outer_pid
        self.outbox.start()
        self._deadline = began + self.limits["timeout_ms"] / 1000
        limits = self.limits
        self._watch = Watch(self.place, began, limits["cpu_seconds"], limits["memory_bytes"], self.host.memory.floor)
        self._plan()
        self._output.pump()

    def on_exit(self, status, cpu_seconds, ended, ahead=False, alone=False):
        """The main process is gone. `cpu_seconds` None: nobody could say. `ahead`: it was there before the job, and may
        have ended without a look at it. Then the zygote runs the job, and if it answers instead, the job is lost.
        `alone`: it left nothing below its zygote; None: nobody has looked."""
        if self.state == STARTING and ahead and self._failure is None:
            try:
                self.place.link.send(("echo", self.outbox.stream_id))
            except OSError:
                self.place.kill()
                self.fail("runner_error", "The process that starts programs did not answer.", "no")
        elif self.state == STARTING:
            failure = self._failure or ("runner_error", "The program ended before it began.", "no")
            if self._killed_for == "cancelled":
                failure = ("cancelled", "The execution was cancelled.", "no")
            self.place.kill()
            self.fail(*failure)
        elif self.state == RUNNING:
            self._ended = (status, cpu_seconds, ended)
            self.state = DRAINING
            self.due = time.monotonic() + DRAIN_SECONDS
            self.host.survivors(self.place.clear(alone))
            self._stop_stdin()
            self._output.drain()
            if self._killed_for == "cancelled":
                # Nobody may be left to grant credit for the rest, or to take files.
                self._output.give_up()
            self.pump()

    def on_echo(self, stream_id):
        """Asked for when a child ended that had not begun. If the job has run since, this says nothing any more."""
        if self.state == STARTING and stream_id == self.outbox.stream_id:
            self.on_exit(signal.SIGKILL, None, time.monotonic())

    def on_link_gone(self):
        """The zygote, or the cell, ended: by our kill, or with all that ran in it."""
        if self.state not in (STARTING, RUNNING):
            return
        if self._killed_for or self._memory.oom_killed():
            self.on_exit(signal.SIGKILL, None, time.monotonic())
        elif self.state == STARTING:
            self.fail("runner_error", "The process that starts programs ended.", "no")
        else:
            self.place.kill()
            self.fail("runner_error", "The sandbox's own process ended while the program ran.", "yes")

    # Clocks and limits

    def _plan(self):
        self.due = min(self._deadline, self._watch.due, self._cpu_hard_at or self._deadline)

    def tick(self, now):
        if self.state == STARTING:
            self._failure = self._failure or ("runner_error", "The program did not start in time.", "no")
            self.due = now + START_SECONDS
            self.place.kill()
        elif self.state == RUNNING and self._dying:
            self.fail("runner_error", "The program could not be killed.", "yes")
        elif self.state == RUNNING:
            if now >= self._deadline:
                self.kill("timed_out")
            elif self._cpu_hard_at and now >= self._cpu_hard_at:
                self.kill("cpu_limit")
            elif now >= self._watch.due:
                self._look(now)
            if not self._dying:
                self._plan()
        elif self.state == DRAINING:
            self.due = now + DRAIN_SECONDS
            # Credit may have come in this very turn, and what lies in the pipes is the program's.
            self._output.drain()
            if not self._output.held_back():
                self._output.give_up()

    def _look(self, now):
        if not self.place.keeps_files:
            # Where executions share a place, a reset waits for the memory of the one before.
            self._memory.look()
        passed = self._watch.poll(now, self._inner_pid)
        if "memory" in passed:
            self.kill("memory_limit")
        elif "cpu" in passed and not self._cpu_hard_at:
            self._killed_for = "cpu_limit"
            self._cpu_hard_at = now + CPU_GRACE_SECONDS
            try:
                self._warn_cpu()
            except OSError:
                pass

    def _warn_cpu(self):
        os.kill(self.main_pid, signal.SIGXCPU)

    def kill(self, reason):
        """The zygote, or the end of the cell, reports what became of it."""
        self._killed_for = reason
        self._dying = True
        self.place.kill()
        self.due = time.monotonic() + KILL_SECONDS

    def cancel(self):
        if self.state == INPUT:
            self.fail("cancelled", "The execution was cancelled.", "no")
        elif self.state == STARTING:
            # Whether it had begun, the zygote will tell.
            self._killed_for = "cancelled"
            self.place.kill()
        elif self.state == RUNNING:
            self.kill("cancelled")
        elif self.state in (DRAINING, COLLECTING):
            self._output.give_up()
            self._finish(("cancelled", None, None))

    # The end

    def pump(self):
        """Goes on with what waited for credit, for input, or for the walk."""
        if self.state == RUNNING and not self._dying and self._output.over_limit:
            self.kill("output_limit")
        if self.state in (RUNNING, DRAINING):
            self._output.pump()
        if self.state == RUNNING and self._output.ended and not self._looked:
            self._looked = True
            self._look_for_end()
        if self.state == DRAINING and self._output.ended:
            self.state, self.due = COLLECTING, None
            self._files = self._collect()
        if self.state == COLLECTING:
            self._pump_files()

    def _pump_files(self):
        try:
            sent = self._files is None or self._files.pump()
        except OSError as error:
            self.fail("runner_error", "The program's files could not be read: %s." % error.strerror, "yes")
            return
        if sent:
            self._finish(None)

    def _look_for_end(self):
        """The program closed its output, as Python programs do last of all."""
        ended = None if self._killed_for else self.place.departed(self._inner_pid, self.main_pid)
        if ended is not None:
            self.on_exit(*ended, alone=None)

    def _collect(self):
        """What sends files, or None."""
        if not self.request["collect"] or self._killed_for == "cancelled":
            return None
        keeps = self.place.keeps_files
        known = dict(self.host.known) if keeps else {}
        known.update(self._staging.staged)
        mains = self.host.mains if keeps else {self._staging.main_name.encode()}
        return FilesOut(self.outbox, self.place.workspace_fd, mains, known, self.host.config)

    @property
    def restless(self):
        """Wants to be pumped again without waiting for an event."""
        return self.state == COLLECTING and self._files is not None and self._files.walking

    def _finish(self, verdict):
        status, cpu_seconds, ended = self._ended
        spent = max(self._watch.cpu, self.place.final_cpu(cpu_seconds))
        if verdict is None:
            verdict = judge(status, self._killed_for, spent, self.limits["cpu_seconds"], self._memory.oom_killed)
        outcome, exit_code, number = verdict
        collector = self._files and self._files.collector
        if collector and self.place.keeps_files:
            self.host.known = collector.known
        times = (max(0.0, ended - self._began), spent)
        peak = self._memory.peak(self._watch.peak)
        body = verdict_body(verdict, times, peak, self._output, collector)
        self._close({"result": self._describe(body), "failure": None})

    def _describe(self, body):
        return body

    def fail(self, code, detail, started):
        self._close({"result": None, "failure": {"code": code, "detail": detail[:1000], "started": started}})

    def _close(self, body):
        if self.state == ENDED:
            return
        self.state, self.due = ENDED, None
        self._waiting = []
        self._stop_stdin()
        # What says EXIT again over another stream, the outbox, stays; the input is large.
        self._staging = None
        if self._output is not None:
            self._output.give_up()
        if self._files is not None:
            self._files.close()
        self.outbox.exit(body)
        self.host.ended(self)
