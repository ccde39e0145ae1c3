"""Which stream the agent holds, if any: streams come, end, and replace each other; the sandbox goes on."""

import time

from podgate_runner import attach, frames
from podgate_runner.frames import FrameError
from podgate_runner.request import RequestError
from podgate_runner.stream import Stream


class Attachment:
    """`owner` has on_attach(offsets), on_frame(kind, channel, stream, sequence, body), on_input_end() and on_lost()."""

    def __init__(self, owner, poller, config):
        self._owner = owner
        self._poller = poller
        self._idle_seconds = config["idle_exit_seconds"]
        self._idle_since = time.monotonic()
        self._raw = None
        self._shim = None
        self._writing = False
        self._shim_due = None
        self.epoch = 0
        # The stream once its ATTACH was read, else None.
        self.stream = None
        self.over = False
        self._listener = None
        if config["attach"] == "socket":
            self._listener = attach.Listener(poller, config["proc_root"], self._take_shim)
        else:
            self._use(Stream(0, 1))

    @property
    def due(self):
        dues = [self._shim_due]
        if self._idle_seconds and self._raw is None:
            dues.append(self._idle_since + self._idle_seconds)
        return min((due for due in dues if due is not None), default=None)

    def tick(self, now):
        if self._listener is not None:
            self._shim_due = self._listener.tick(now)
        if self._idle_seconds and self._raw is None and now >= self._idle_since + self._idle_seconds:
            self.over = True

    def flush(self):
        """True when all that waited has left, and somebody may have stopped for want of room."""
        stream = self._raw
        if stream is None:
            return False
        stopped = self._writing or stream.full
        try:
            stream.flush()
        except OSError:
            self.lose()
            return False
        waits = stream.queued > 0
        if waits != self._writing:
            self._writing = waits
            if waits:
                self._poller.write(stream.out_fd, _nothing)
            else:
                self._poller.forget(stream.out_fd)
        return stopped and not waits

    def lose(self):
        stream, self._raw, self.stream = self._raw, None, None
        if stream is None:
            return
        if self._shim is not None:
            self._poller.forget(self._shim.fileno())
            self._shim.close()
            self._shim = None
        self._poller.forget(stream.in_fd)
        self._poller.forget(stream.out_fd)
        self._writing = False
        stream.close()
        self._idle_since = time.monotonic()
        self._owner.on_lost()
        # Nobody can replace standard streams.
        self.over = self.over or self._listener is None

    def _use(self, stream, shim=None):
        self.lose()
        self._raw, self._shim = stream, shim
        try:
            self._poller.read(stream.in_fd, self._receive)
            if shim is not None:
                # It says nothing more: whatever comes is its end.
                self._poller.read(shim.fileno(), self.lose)
        except OSError:
            # A file, for which nobody can wait.
            self.lose()

    def _take_shim(self, in_fd, out_fd, sock):
        self._use(Stream(in_fd, out_fd, (in_fd, out_fd)), sock)

    def _receive(self):
        stream = self._raw
        try:
            received = stream.receive()
            for epoch, kind, channel, stream_id, sequence, body in received or ():
                if self.stream is None:
                    self._attach(stream, epoch, kind, stream_id, stream.check(kind, channel, sequence, body))
                elif epoch == stream.epoch:
                    body = stream.check(kind, channel, sequence, body)
                    self._owner.on_frame(kind, channel, stream_id, sequence, body)
                if self._raw is not stream:
                    return
        except (FrameError, RequestError):
            received = None
        if received is None:
            self.lose()
        else:
            self._owner.on_input_end()

    def _attach(self, stream, epoch, kind, stream_id, body):
        if kind != frames.ATTACH_RUNNER or stream_id:
            raise FrameError("the first frame is not ATTACH")
        offsets = body.get("offsets")
        if body.get("epoch") != epoch or epoch <= self.epoch or not isinstance(offsets, dict):
            raise FrameError("ATTACH is not what the protocol says")
        if self.epoch == 0 and epoch > 1:
            # Another runner was here, and the container was started again: what it had is gone.
            self.over = True
            return
        self.epoch = stream.epoch = epoch
        self.stream = stream
        self._owner.on_attach(offsets)


def _nothing():
    pass
