"""What the agent is told: what there is when a stream comes, and what becomes of requests that are no execution's."""

from podgate_runner import frames, request
from podgate_runner.frames import FrameError
from podgate_runner.limits import MAX_STREAM_ID
from podgate_runner.outbox import Outbox


class AgentSide:
    """Of a runner, which has the executions, the supply of places and the attachment to a stream."""

    def on_attach(self, offsets):
        self._send_ready()
        for execution in (self._last, self._execution):
            if execution is not None:
                self._resume(execution, offsets.get(str(execution.outbox.stream_id)))
        self._refuse_unheard(offsets)

    def _resume(self, execution, seen):
        """`seen`: the offsets that the agent knows; None where it knows nothing of it."""
        if isinstance(seen, dict):
            if not execution.outbox.replay(self._attachment.stream, seen):
                raise FrameError("ATTACH names offsets that never were")
            if execution.starved:
                execution.fail("sandbox_lost", "A part of the input was lost with the stream before.", "no")
        else:
            # Nobody will take its output. Nothing, where it has ended.
            execution.cancel()

    def _refuse_unheard(self, offsets):
        """A START that was lost with its stream is answered: nothing ran, and nobody has to guess."""
        asked = [int(name) for name in offsets if name.isdecimal() and len(name) <= 10]
        for stream_id in sorted(number for number in asked if self._last_stream < number <= MAX_STREAM_ID):
            self._last_stream = stream_id
            self._refuse(stream_id, "sandbox_lost", "The request was lost with the stream before.")

    def on_lost(self):
        # Who asked hears no answer any more.
        self._reset_waits = False
        for execution in (self._execution, self._last):
            if execution is not None:
                execution.outbox.stream = None

    def _refuse(self, stream_id, code, detail):
        outbox = Outbox(stream_id)
        outbox.stream = self._attachment.stream
        outbox.exit({"result": None, "failure": {"code": code, "detail": detail, "started": "no"}})

    def _say_reset(self, leftovers):
        self._say(frames.RESET_DONE, {"ok": not leftovers, "leftovers": leftovers})

    def _say(self, kind, body):
        self._attachment.stream.control(kind, 0, body)

    def _send_ready(self):
        """Once a stream, as soon as an execution could start."""
        supply, stream, running = self._supply, self._attachment.stream, self._execution
        if stream is None or stream.greeted or not (supply.place or supply.trouble or running):
            return
        stream.greeted = True
        body = request.ready(self.config, supply.facts, supply.trouble, self._programs)
        body["epoch"] = self._attachment.epoch
        body["features"]["cgroup"] = self._cgroup.kind if self._cgroup else None
        body["base_memory_bytes"] = self._base_memory_bytes
        body["running"] = self._running()
        self._say(frames.READY, body)

    def _running(self):
        return [self._execution.outbox.stream_id] if self._execution is not None else []
