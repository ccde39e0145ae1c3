"""Sends the files that a program left, one after the other, as credit allows."""

from podgate_runner.collect import Collector, Reader
from podgate_runner.limits import MAX_DATA_BYTES
from podgate_runner.outbox import FILES


class FilesOut:
    def __init__(self, outbox, workspace_fd, mains, known, config):
        self._outbox = outbox
        self._root = workspace_fd
        self.collector = Collector(workspace_fd, mains, known, config["files_max"], config["files_max_bytes"])
        self._walk = self.collector.walk()
        self._next = 0
        self._reader = None
        self.walking = True

    def pump(self):
        """True when all is sent. While `walking` it wants to be called again soon. OSError where nothing can be listed, or a
        file not be read to its end of which a part is sent."""
        if self.walking:
            for _ in self._walk:
                return False
            self.walking = False
        while True:
            if self._reader is None and not self._open():
                return True
            if not self._send():
                return False

    def _open(self):
        chosen = self.collector.chosen
        while self._next < len(chosen):
            path = chosen[self._next]
            try:
                self._reader = Reader(self._root, path)
                return True
            except OSError:
                self.collector.omit_unreadable(path)
                self._next += 1
        return False

    def _send(self):
        """One file as far as credit goes; True when it is whole."""
        reader = self._reader
        while True:
            left = reader.size - reader.sent
            room = min(self._outbox.room(), MAX_DATA_BYTES, left)
            if left and room <= 0:
                return False
            try:
                piece = reader.read(room) if left else b""
            except OSError:
                if reader.sent:
                    raise
                self.collector.omit_unreadable(self.collector.chosen[self._next])
                self._go_on()
                return True
            if not piece:
                break
            reader.digest.update(piece)
            reader.sent += len(piece)
            self._outbox.data(FILES, piece)
        path = self.collector.chosen[self._next]
        self._outbox.end_file(path.decode("utf-8"), reader.sent, reader.digest.hexdigest())
        self.collector.learn(path, reader.digest.digest())
        self._go_on()
        return True

    def _go_on(self):
        self.close()
        self._next += 1

    def close(self):
        # A removed directory keeps its room while the walk has it open.
        self._walk.close()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
