"""The runner: one thread, one epoll, one execution at a time."""

import os
import time

from podgate_runner import cgroup, environment, frames, interpreters, processes, request
from podgate_runner.agent_side import AgentSide
from podgate_runner.attachment import Attachment
from podgate_runner.execution import Execution
from podgate_runner.frames import FrameError
from podgate_runner.memory import Memory
from podgate_runner.poller import Poller
from podgate_runner.reaper import Reaper
from podgate_runner.reset import reset
from podgate_runner.supply import Supply


class Runner(AgentSide):
    def __init__(self, config, environ):
        self.config = config
        self.poller = Poller()
        self.reaper = Reaper()
        self.reaper.watch()
        self.poller.read(self.reaper.wake_fd, self._on_children)
        self._cgroup = cgroup.given(config["cgroup_given"]) or cgroup.find(config["cgroup_root"], config["proc_root"])
        self.memory = Memory(self._cgroup)
        # Files that were there when the last execution ended; see collect.py.
        self.known = {}
        # Names of the code's own files since the last reset.
        self.mains = set()
        # What the zygote holds of the limits that it passes on.
        self.zygote_data_bytes = 0
        self.own_tasks = 2
        self._base_memory_bytes = 0
        self._execution = None
        # The last execution that ended: what it said may not have arrived.
        self._last = None
        self._last_stream = 0
        self._unkillable = False
        # RESET came while the last program's memory was still being freed, or its zygote replaced.
        self._reset_waits = False
        image = environment.of_image(environ, config["threads"])
        self._supply = Supply(self, image)
        self._attachment = Attachment(self, self.poller, config)
        self._supply.begin()
        self._programs = {}
        for name in config["languages"]:
            found = interpreters.find(name, image) if name != "python" else None
            if found:
                self._programs[name] = found

    def run(self):
        while not self._attachment.over:
            self.poller.poll(self._timeout())
            now = time.monotonic()
            execution = self._execution
            if execution is not None and execution.due is not None and now >= execution.due:
                execution.tick(now)
            self._supply.tick(now)
            self._attachment.tick(now)
            self._pump()
        if self._execution is not None and self._execution.place is not None:
            self._execution.place.kill()
        self._supply.close()

    def _timeout(self):
        execution = self._execution
        if execution is not None and execution.restless:
            return 0
        dues = (execution and execution.due, self._supply.due, self._attachment.due)
        first = min((due for due in dues if due is not None), default=None)
        return -1 if first is None else max(0.0, first - time.monotonic())

    def _pump(self):
        # What is queued behind a flush nobody would send: there is no event for it.
        flushed = True
        while flushed:
            if self._execution is not None:
                self._execution.pump()
            flushed = self._attachment.flush()

    # What the agent says

    def on_frame(self, kind, channel, stream_id, sequence, body):
        execution = self._execution
        if execution is not None and execution.outbox.stream_id == stream_id:
            self._on_execution_frame(execution, kind, channel, sequence, body)
        elif kind == frames.START:
            self._start(stream_id, request.parse(body))
        elif kind == frames.PING and not stream_id:
            place = (self._execution and self._execution.place) or self._supply.place
            count = len(place.processes()) if place else 0
            self._say(frames.PONG, {"id": request.integer(body, "id"), "processes": count})
        elif kind == frames.RESET and not stream_id:
            self._reset()
        elif not 0 < stream_id <= self._last_stream or kind not in _OF_EXECUTION:
            raise FrameError("a frame out of place")

    def _on_execution_frame(self, execution, kind, channel, sequence, body):
        if kind == frames.DATA:
            if channel or not execution.receive(sequence, body):
                raise FrameError("input out of place")
        elif kind == frames.WINDOW:
            execution.outbox.limit = max(execution.outbox.limit, request.integer(body, "limit"))
        elif kind == frames.CANCEL:
            execution.cancel()
        elif kind == frames.END:
            execution.end_input()
        elif kind == frames.SIGNAL:
            execution.signal(request.signal_number(body))
        elif kind == frames.RESIZE:
            execution.resize(*request.size(body))
        else:
            raise FrameError("a frame out of place")

    def on_input_end(self):
        """All that had arrived was handled."""
        if self._execution is not None:
            self._execution.advance()

    def _start(self, stream_id, asked):
        if stream_id <= self._last_stream:
            raise FrameError("a stream id was used twice")
        self._last_stream = stream_id
        if asked["session"] is not None and self._execution is None:
            self._become_session()
        self._accept(stream_id, asked)

    def _become_session(self):
        from podgate_runner import session

        session.keep(self)

    def _accept(self, stream_id, asked):
        language = asked["language"]
        offered = language in self.config["languages"] and (language == "python" or language in self._programs)
        if self._execution is not None:
            self._refuse(stream_id, "busy", "The sandbox runs something else.")
        elif self._supply.trouble or self._unkillable:
            detail = self._supply.trouble or "An earlier program could not be ended."
            self._refuse(stream_id, "runner_error", detail)
        elif not offered:
            self._refuse(stream_id, "no_language", "This sandbox has no %s." % language)
        else:
            self._execution, self._last = execution_type(asked)(self, stream_id, asked), None
            self._execution.outbox.stream = self._attachment.stream
            self._execution.place = self._supply.take()

    def _reset(self):
        place = self._supply.place
        self._reset_waits = self._execution is None and not self._supply.settled
        if self._reset_waits:
            return
        if self._execution is not None:
            leftovers = ["an execution that runs"]
        else:
            leftovers = self.restore(place) if place is not None and place.keeps_files else []
            if self._supply.trouble:
                leftovers.append(self._supply.trouble)
            self._last = None
        self._say_reset(leftovers)

    def restore(self, place):
        """Makes it as it was before anything ran. Returns what stays."""
        self.known, self.mains = {}, set()
        return reset(place, self.config)

    # What executions ask

    def program(self, language):
        """(name, path) of what to execute; no path for Python, which the zygote is."""
        return language, self._programs[language][0] if language != "python" else None

    def survivors(self, left):
        self._unkillable = self._unkillable or bool(left)

    def ended(self, execution):
        """EXIT was said."""
        self.reaper.forget(execution.main_pid)
        self._execution, self._last = None, execution
        self._attachment.flush()
        if self._unkillable:
            self._supply.release(execution.place)
        else:
            self._supply.finish(execution.place)

    # What zygotes and children say

    def measure(self, zygote_pid):
        """What the sandbox takes before any user code: the runner, and the zygote with all that it preloaded."""
        proc_fd = os.open(self.config["proc_root"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.memory.floor = processes.resident(proc_fd, zygote_pid)
            self._base_memory_bytes = self.memory.floor + processes.resident(proc_fd, os.getpid())
            self.zygote_data_bytes = processes.data_bytes(proc_fd, zygote_pid)
            self.own_tasks = 1 + processes.threads(proc_fd, zygote_pid)
        finally:
            os.close(proc_fd)

    def on_supply(self):
        """A place is ready, or will never be."""
        self._send_ready()
        if self._reset_waits:
            self._reset()
        execution = self._execution
        if execution is None or execution.place is not None:
            return
        if self._supply.trouble:
            execution.fail("runner_error", self._supply.trouble, "no")
        else:
            execution.place = self._supply.take()
            execution.advance()

    def on_message(self, message, sender):
        execution, kind = self._execution, message[0]
        if execution is None:
            return
        if kind == "started":
            self.reaper.expect(sender)
            execution.on_started(message[1], message[2], sender)
            if not execution.place.keeps_files:
                self._supply.put_off()
        elif kind == "exit":
            execution.on_exit(*message[1:])
        elif kind == "echo":
            execution.on_echo(message[1])
        elif kind == "failed":
            execution.on_failed(message[1])

    def on_link_gone(self, link):
        """True when an execution runs there: its end comes first, whatever is to be replaced."""
        execution = self._execution
        if execution is None or execution.place is None or execution.place.link is not link:
            return False
        if execution.place.keeps_files and execution.main_pid:
            # Its parent died, so it is the runner's child now, and its end is ours to see.
            self._on_children()
            if processes.read(execution.place.proc_fd, execution.main_pid) is None:
                # Unless it was buried before anybody waited for it.
                execution.on_link_gone()
        else:
            execution.on_link_gone()
        return True

    def _on_children(self):
        self.reaper.wake()
        self._supply.heed_children()
        execution = self._execution
        if execution is not None and execution.main_pid:
            ended = self.reaper.take(execution.main_pid)
            if ended is not None:
                execution.on_exit(*ended)


def execution_type(asked):
    if not asked["rich"]:
        return Execution
    from podgate_runner.rich_execution import RichExecution

    return RichExecution


_OF_EXECUTION = (frames.DATA, frames.END, frames.WINDOW, frames.CANCEL, frames.SIGNAL, frames.RESIZE)
