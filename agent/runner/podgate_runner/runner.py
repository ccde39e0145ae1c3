"""The runner: one thread, one epoll, one execution at a time."""

import os
import resource
import time

from podgate_runner import attach, cgroup, environment, frames, interpreters, processes, request
from podgate_runner.execution import ENDED, Execution
from podgate_runner.frames import FrameError
from podgate_runner.limits import MAX_STREAM_ID, RUNNER_VERSION
from podgate_runner.memory import Memory
from podgate_runner.outbox import Outbox
from podgate_runner.poller import Poller
from podgate_runner.reaper import Reaper
from podgate_runner.reset import reset
from podgate_runner.stream import Stream
from podgate_runner.supply import Supply


class Runner:
    def __init__(self, config, environ):
        self.config = config
        self.poller = Poller()
        self.reaper = Reaper()
        self.reaper.watch()
        self.poller.read(self.reaper.wake_fd, self._on_children)
        self._cgroup = cgroup.find(config["cgroup_root"], config["proc_root"])
        self.memory = Memory(self._cgroup)
        # Files that were there when the last execution ended; see collect.py.
        self.known = {}
        self.zygote_data_bytes = 0
        self.own_tasks = 2
        self._stream = None
        self._shim = None
        self._epoch = 0
        self._attached = False
        self._listener = None
        self._execution = None
        # The last execution that ended: what it said may not have arrived.
        self._last = None
        self._last_stream = 0
        self._dirty = False
        self._stopped = False
        self._idle_since = time.monotonic()
        self._writing = False
        image = environment.of_image(environ)
        self._supply = Supply(self, image)
        self._supply.begin()
        self._programs = {}
        for name in config["languages"]:
            found = interpreters.find(name, image) if name != "python" else None
            if found:
                self._programs[name] = found

    def run(self):
        if self.config["attach"] == "socket":
            self._listener = attach.Listener(self.poller, self.config["proc_root"], self._take_shim)
        else:
            self._use(Stream(0, 1))
        while not self._stopped:
            self.poller.poll(self._timeout())
            self._tick(time.monotonic())
            self._pump()
        self._supply.close()
        return 0

    # Time

    def _timeout(self):
        if self._execution is not None and self._execution.restless:
            return 0
        dues = [self._supply.due, self._execution and self._execution.due, self._idle_due(), self._shim_due]
        known = [due for due in dues if due is not None]
        return max(0.0, min(known) - time.monotonic()) if known else -1

    _shim_due = None

    def _idle_due(self):
        seconds = self.config["idle_exit_seconds"]
        return self._idle_since + seconds if seconds and self._stream is None else None

    def _tick(self, now):
        execution = self._execution
        if execution is not None and execution.due is not None and now >= execution.due:
            execution.tick(now)
        self._supply.tick(now)
        if self._listener is not None:
            self._shim_due = self._listener.tick(now)
        idle_due = self._idle_due()
        if idle_due is not None and now >= idle_due:
            self._stopped = True

    def _pump(self):
        execution = self._execution
        if execution is not None:
            execution.pump()
        stream = self._stream
        if stream is None:
            return
        try:
            stream.flush()
        except OSError:
            self._lose_stream()
            return
        if (stream.queued > 0) != self._writing:
            self._writing = stream.queued > 0
            if self._writing:
                self.poller.write(stream.out_fd, _nothing)
            else:
                self.poller.forget(stream.out_fd)
                if execution is not None:
                    execution.pump()

    # The stream

    def _use(self, stream):
        self._lose_stream()
        self._stream = stream
        self._attached = False
        self.poller.read(stream.in_fd, self._receive)

    def _take_shim(self, in_fd, out_fd, sock):
        shim_fd = sock.fileno()
        stream = Stream(in_fd, out_fd, (in_fd, out_fd))
        self._use(stream)
        self._shim = sock
        self.poller.read(shim_fd, lambda: self._lose_stream() if self._shim is sock else None)

    def _lose_stream(self):
        stream, self._stream = self._stream, None
        if self._shim is not None:
            self.poller.forget(self._shim.fileno())
            self._shim.close()
            self._shim = None
        if stream is None:
            return
        self.poller.forget(stream.in_fd)
        self.poller.forget(stream.out_fd)
        self._writing = False
        stream.close()
        self._idle_since = time.monotonic()
        for execution in (self._execution, self._last):
            if execution is not None:
                execution.outbox.stream = None
        if self._listener is None:
            self._stopped = True

    def _receive(self):
        stream = self._stream
        try:
            received = stream.receive()
            for frame in received or ():
                if self._attached and frame[0] != stream.epoch:
                    continue
                self._handle(frame, stream.check(frame))
                if self._stream is not stream:
                    return
        except (FrameError, request.RequestError):
            received = None
        if received is None:
            self._lose_stream()
        elif self._execution is not None:
            self._execution.advance()

    def _handle(self, frame, body):
        epoch, kind, channel, stream_id, sequence = frame[:5]
        if not self._attached:
            if kind != frames.ATTACH_RUNNER or stream_id:
                raise FrameError("the first frame is not ATTACH")
            self._attach(epoch, body)
        elif stream_id == 0:
            self._handle_sandbox(kind, body)
        elif kind == frames.START:
            self._start(stream_id, request.parse(body))
        elif stream_id > self._last_stream:
            raise FrameError("a stream that never was")
        elif self._execution is not None and self._execution.outbox.stream_id == stream_id:
            self._handle_execution(kind, channel, sequence, body)
        elif kind not in (frames.DATA, frames.END, frames.WINDOW, frames.CANCEL):
            raise FrameError("an unknown type")

    def _attach(self, epoch, body):
        offsets = body.get("offsets")
        if body.get("epoch") != epoch or epoch <= self._epoch or not isinstance(offsets, dict):
            raise FrameError("ATTACH is not what the protocol says")
        self._epoch = self._stream.epoch = epoch
        self._attached = True
        self._send_ready()
        for execution in (self._last, self._execution):
            if execution is None:
                continue
            seen = offsets.get(str(execution.outbox.stream_id))
            if isinstance(seen, dict):
                if not execution.outbox.replay(self._stream, seen):
                    raise FrameError("ATTACH names offsets that never were")
            elif execution is self._execution:
                # The agent knows nothing of it: nobody will take its output.
                execution.cancel()

    def _handle_sandbox(self, kind, body):
        if kind == frames.PING:
            place = self._supply.ready_place()
            count = len(place.processes()) if place else 0
            self._stream.control(frames.PONG, 0, {"id": request.integer(body, "id"), "processes": count})
        elif kind == frames.RESET:
            self._reset()
        else:
            raise FrameError("an unknown type")

    def _handle_execution(self, kind, channel, sequence, body):
        execution = self._execution
        if kind == frames.DATA:
            if channel or not execution.receive(sequence, body):
                raise FrameError("input out of place")
        elif kind == frames.WINDOW:
            limit = request.integer(body, "limit")
            execution.outbox.limit = max(execution.outbox.limit, limit)
        elif kind == frames.CANCEL:
            execution.cancel()
        elif kind != frames.END:
            raise FrameError("an unknown type")

    # The sandbox

    def _send_ready(self):
        facts = self._supply.facts
        stream = self._stream
        if stream is None or not self._attached or (facts is None and not self._supply.trouble):
            return
        if getattr(stream, "ready_sent", False) or (self._awaits_place() and not self._supply.trouble):
            return
        stream.ready_sent = True
        body = request.ready(self.config, facts, self._supply.trouble, self._programs)
        body["version"], body["epoch"] = RUNNER_VERSION, self._epoch
        body["features"]["cgroup"] = self._cgroup.kind if self._cgroup else None
        body["base_memory_bytes"] = self._base_memory
        running = self._execution
        body["running"] = [running.outbox.stream_id] if running is not None else []
        stream.control(frames.READY, 0, body)

    def _awaits_place(self):
        return self._supply.ready_place() is None and self._execution is None

    _base_memory = 0

    def measure(self, zygote_pid):
        """What the sandbox takes before any user code: the runner, and the zygote with all that it preloaded."""
        proc_fd = os.open(self.config["proc_root"], os.O_RDONLY | os.O_DIRECTORY)
        try:
            zygote = processes.resident(proc_fd, zygote_pid)
            self._base_memory = zygote + processes.resident(proc_fd, os.getpid())
            self.memory.floor = zygote
            self.zygote_data_bytes = processes.data_bytes(proc_fd, zygote_pid)
            self.own_tasks = 1 + processes.threads(proc_fd, zygote_pid)
        finally:
            os.close(proc_fd)

    def program(self, language):
        """(name, path) of what to execute; no path for Python, which the zygote is."""
        return language, self._programs[language][0] if language != "python" else None

    def _start(self, stream_id, asked):
        if stream_id <= self._last_stream or stream_id > MAX_STREAM_ID:
            raise FrameError("a stream id was used twice")
        self._last_stream = stream_id
        if self._execution is not None:
            self._refuse(stream_id, "busy", "The sandbox runs something else.")
        elif self._dirty or self._supply.trouble:
            self._refuse(stream_id, "runner_error", self._supply.trouble or "An earlier program could not be ended.")
        elif asked["language"] not in self.config["languages"] or (
            asked["language"] != "python" and asked["language"] not in self._programs
        ):
            self._refuse(stream_id, "no_language", "This sandbox has no %s." % asked["language"])
        else:
            self._execution = Execution(self, stream_id, asked)
            self._execution.outbox.stream = self._stream
            self._execution.place = self._supply.ready_place()
            self._last = None

    def _refuse(self, stream_id, code, detail):
        outbox = Outbox(stream_id)
        outbox.stream = self._stream
        outbox.exit({"result": None, "failure": {"code": code, "detail": detail, "started": "no"}})

    def on_supply(self):
        """A place is ready, or will never be."""
        self._send_ready()
        execution = self._execution
        if execution is None or execution.place is not None:
            return
        if self._supply.trouble:
            execution.fail("runner_error", self._supply.trouble, "no")
        else:
            execution.place = self._supply.ready_place()
            execution.advance()

    def on_message(self, message, sender):
        execution, kind = self._execution, message[0]
        if execution is None:
            return
        if kind == "started":
            self.reaper.expect(sender)
            execution.on_started(message[1], message[2], sender)
        elif kind == "exit":
            execution.on_exit(message[1], message[2], message[3])
        elif kind == "failed":
            execution.on_failed(message[1])

    def on_link_gone(self):
        """True while an execution has to end before anything is replaced."""
        execution = self._execution
        if execution is None or execution.place is None:
            return False
        if execution.place.keeps_files and execution.main_pid:
            # Its parent died, so it is the runner's child now, and its end is ours to see.
            self._on_children()
            return self._execution is not None
        execution.on_link_gone()
        return False

    def _on_children(self):
        self.reaper.wake()
        execution = self._execution
        if execution is not None and execution.main_pid:
            ended = self.reaper.take(execution.main_pid)
            if ended is not None:
                execution.on_exit(*ended)

    def survivors(self, left):
        if left:
            self._dirty = True

    def ended(self, execution):
        """EXIT was said."""
        self.reaper.forget(execution.main_pid)
        self._execution, self._last = None, execution
        self._pump()
        self._supply.release(execution.place)

    def _reset(self):
        if self._execution is not None:
            leftovers = ["an execution that runs"]
        else:
            place = self._supply.ready_place()
            leftovers = reset(place, self.config) if place is not None and place.keeps_files else []
            if self._supply.trouble:
                leftovers.append(self._supply.trouble)
            self.known, self._last = {}, None
            self._dirty = bool(leftovers)
        self._stream.control(frames.RESET_DONE, 0, {"ok": not leftovers, "leftovers": leftovers})


def _nothing():
    pass
