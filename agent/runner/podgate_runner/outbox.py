"""Output of one execution on its way to the agent: credit, offsets, and what a new stream may ask for again."""

from collections import deque

from podgate_runner import frames
from podgate_runner.limits import MAX_DATA_BYTES, STREAM_WINDOW_BYTES
from podgate_runner.stream import encode

STDOUT, STDERR, FILES = 1, 2, 3


class Outbox:
    def __init__(self, stream_id):
        self.stream_id = stream_id
        # The attached stream, or None while the agent is away: output then only waits.
        self.stream = None
        self.limit = STREAM_WINDOW_BYTES
        self._sent = 0
        self._offsets = {STDOUT: 0, STDERR: 0, FILES: 0}
        # Channel → (kind, offset, body) of what was sent last: never less than a whole window.
        self._kept = {STDOUT: deque(), STDERR: deque(), FILES: deque()}
        self._kept_bytes = {STDOUT: 0, STDERR: 0, FILES: 0}
        self._files_dropped = 0
        self.started = False
        self._exit = None

    def room(self):
        """Bytes that may be sent now."""
        if self.stream is not None and self.stream.full:
            return 0
        return self.limit - self._sent

    def sent_on(self, channel):
        return self._offsets[channel]

    def start(self):
        self.started = True
        self._control(frames.STARTED, {})

    def data(self, channel, body):
        """`body` fits into room()."""
        for at in range(0, len(body), MAX_DATA_BYTES):
            piece = body[at : at + MAX_DATA_BYTES]
            self._send(frames.DATA, channel, piece)
            self._offsets[channel] += len(piece)
        self._sent += len(body)

    def end_file(self, path, size, digest):
        self._send(frames.END, FILES, encode({"path": path, "size": size, "sha256": digest}).encode("utf-8"))

    def exit(self, body):
        self._exit = body
        self._control(frames.EXIT, body)

    def window(self, limit):
        self._control(frames.WINDOW, {"limit": limit})

    def _control(self, kind, body):
        if self.stream is not None:
            self.stream.control(kind, self.stream_id, body)

    def _send(self, kind, channel, body):
        offset = self._offsets[channel]
        if self.stream is not None:
            self.stream.data(kind, channel, self.stream_id, offset, body)
        kept = self._kept[channel]
        kept.append((kind, offset, body))
        if kind == frames.DATA:
            self._kept_bytes[channel] += len(body)
        while self._kept_bytes[channel] - len(kept[0][2]) >= STREAM_WINDOW_BYTES:
            kind, _, body = kept.popleft()
            if kind == frames.DATA:
                self._kept_bytes[channel] -= len(body)
            else:
                self._files_dropped += 1

    def replay(self, stream, seen):
        """Says everything again that `seen`, the agent's offsets, lacks. Returns False for offsets that never were."""
        offsets = {channel: seen.get(str(channel), 0) for channel in self._offsets}
        files = seen.get("files")
        for channel, offset in offsets.items():
            if type(offset) is not int or not 0 <= offset <= self._offsets[channel]:
                return False
        self.stream = stream
        if self.started and not seen.get("started", any(offsets.values())):
            self._control(frames.STARTED, {})
        for channel, offset in offsets.items():
            self._replay_channel(channel, offset, files)
        if self._exit is not None:
            self._control(frames.EXIT, self._exit)
        return True

    def _replay_channel(self, channel, seen, files):
        kept = self._kept[channel]
        first = kept[0][1] if kept else self._offsets[channel]
        if seen < first:
            gap = {"channel": channel, "from": seen, "to": first}
            self.stream.control(frames.REPLAY_GAP, self.stream_id, gap)
            seen = first
        number = self._files_dropped
        for kind, offset, body in kept:
            if kind == frames.END:
                number += 1
                # At this very offset only a count of files tells whether the END was seen.
                if number > files if type(files) is int else offset > seen:
                    self.stream.data(kind, channel, self.stream_id, offset, body)
            elif offset + len(body) > seen:
                skip = max(0, seen - offset)
                self.stream.data(kind, channel, self.stream_id, offset + skip, body[skip:])
