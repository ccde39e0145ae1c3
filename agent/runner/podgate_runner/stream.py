"""The stream that an agent holds open: frames in, frames out, one epoch."""

import json
import os
from collections import deque

from podgate_runner import frames
from podgate_runner.frames import FrameError, FrameReader
from podgate_runner.limits import MAX_IOVECS, OUT_QUEUE_HIGH_BYTES, READ_BYTES

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


class Stream:
    def __init__(self, in_fd, out_fd, owned_fds=()):
        self.in_fd = in_fd
        self.out_fd = out_fd
        self.epoch = 0
        self.greeted = False
        self.closed = False
        self._owned = owned_fds
        self._reader = FrameReader()
        self._received = 0
        self._sent = 0
        self._parts = deque()
        self.queued = 0
        os.set_blocking(in_fd, False)
        os.set_blocking(out_fd, False)

    def receive(self):
        """Frames that arrived; None when the stream has ended. Raises FrameError."""
        try:
            chunk = os.read(self.in_fd, READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._reader.push(chunk) if chunk else None

    def check(self, kind, channel, sequence, body):
        """The body of a control frame as a dict, the bytes of DATA."""
        if kind == frames.DATA:
            return body
        if kind != frames.END:
            self._received += 1
            if sequence != self._received:
                raise FrameError("a control frame is out of sequence")
        if channel:
            raise FrameError("a control frame names a channel")
        try:
            value = _decode(body.decode("utf-8"))
        except (ValueError, RecursionError):
            raise FrameError("a body is not JSON") from None
        if not isinstance(value, dict):
            raise FrameError("a body is not an object")
        return value

    def control(self, kind, stream, body):
        self._sent += 1
        self._put(kind, 0, stream, self._sent, encode(body).encode("utf-8", "replace"))

    def data(self, kind, channel, stream, offset, body):
        self._put(kind, channel, stream, offset, body)

    def _put(self, kind, channel, stream, sequence, body):
        if self.closed:
            return
        self._parts.append(frames.head(len(body), self.epoch, kind, channel, stream, sequence) + body)
        self.queued += frames.HEAD_BYTES + len(body)

    @property
    def full(self):
        return self.queued >= OUT_QUEUE_HIGH_BYTES

    def flush(self):
        """Writes what the other side takes. Raises OSError when it is gone."""
        parts = self._parts
        while parts:
            batch = parts if len(parts) <= MAX_IOVECS else [parts[i] for i in range(MAX_IOVECS)]
            try:
                count = os.write(self.out_fd, parts[0]) if len(parts) == 1 else os.writev(self.out_fd, list(batch))
            except BlockingIOError:
                return
            self.queued -= count
            while count:
                first = parts.popleft()
                if count < len(first):
                    parts.appendleft(memoryview(first)[count:])
                    break
                count -= len(first)

    def close(self):
        if self.closed:
            return
        self.closed = True
        self._parts.clear()
        self.queued = 0
        for fd in self._owned:
            os.close(fd)
