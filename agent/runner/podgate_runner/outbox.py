"""Output of one execution on its way to the agent: credit, offsets, and what a new stream may ask for again."""

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
        # What was sent last on each channel: never less than a whole window, for so much may be unacknowledged.
        self._kept = {STDOUT: bytearray(), STDERR: bytearray(), FILES: bytearray()}
        # (offset, body) of every END, as many as files are collected.
        self._ends = []
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
            self._send(channel, piece)
        self._sent += len(body)

    def end_file(self, path, size, digest):
        body = encode({"path": path, "size": size, "sha256": digest}).encode("utf-8")
        self._ends.append((self._offsets[FILES], body))
        if self.stream is not None:
            self.stream.data(frames.END, FILES, self.stream_id, self._offsets[FILES], body)

    def exit(self, body):
        self._exit = body
        self._control(frames.EXIT, body)

    def window(self, limit):
        self._control(frames.WINDOW, {"limit": limit})

    def resumed(self, limit, received):
        """What there is of the input, said on a stream that replaces another."""
        self._control(frames.WINDOW, {"limit": limit, "received": received})

    def _control(self, kind, body):
        if self.stream is not None:
            self.stream.control(kind, self.stream_id, body)

    def _send(self, channel, body):
        if self.stream is not None:
            self.stream.data(frames.DATA, channel, self.stream_id, self._offsets[channel], body)
        kept = self._kept[channel]
        kept += body
        self._offsets[channel] += len(body)
        if len(kept) > 2 * STREAM_WINDOW_BYTES:
            del kept[:-STREAM_WINDOW_BYTES]

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
        end, kept = self._offsets[channel], bytes(self._kept[channel])
        first = end - len(kept)
        if seen < first:
            self._control(frames.REPLAY_GAP, {"channel": channel, "from": seen, "to": first})
        at = start = max(seen, first)
        marks = [] if channel != FILES else self._ends_after(start, files)
        for offset, body in marks + [(end, None)]:
            while at < offset:
                piece = kept[at - first : min(offset - first, at - first + MAX_DATA_BYTES)]
                self.stream.data(frames.DATA, channel, self.stream_id, at, piece)
                at += len(piece)
            if body is not None:
                self.stream.data(frames.END, channel, self.stream_id, offset, body)

    def _ends_after(self, start, files):
        """At `start` itself only the agent's count of files tells which ENDs it has seen."""
        if type(files) is int:
            return [mark for mark in self._ends[files:] if mark[0] >= start]
        return [mark for mark in self._ends if mark[0] > start]
