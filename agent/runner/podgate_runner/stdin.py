"""The program's stdin: spooled while input arrives, fed through a pipe, closed at its end."""

import os

from podgate_runner.limits import PIPE_BYTES, STDIN_MEMORY_BYTES

_SPLICE_BYTES = 1 << 20


class Stdin:
    def __init__(self):
        self._held = bytearray()
        self._spool = None
        self._size = 0
        self._at = 0
        self.write_fd = -1

    def append(self, data, workspace_fd):
        """Raises OSError when the workspace has no room for what memory does not hold."""
        if self._spool is None and len(self._held) + len(data) > STDIN_MEMORY_BYTES:
            self._spool = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=workspace_fd)
            self._write_spool(self._held)
            self._held = bytearray()
        if self._spool is None:
            self._held += data
        else:
            self._write_spool(data)
        self._size += len(data)

    def _write_spool(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self._spool, view) :]

    def open(self):
        """The descriptor for the program; `write_fd` is -1 when there is nothing more to feed."""
        read_fd, self.write_fd = os.pipe()
        if self._size > PIPE_BYTES:
            os.set_blocking(self.write_fd, False)
            self.feed()
        else:
            if self._size:
                os.write(self.write_fd, self._held)
            self.close()
        return read_fd

    def feed(self):
        """Writes what the pipe takes. A reader that is gone wants no more."""
        try:
            while self._at < self._size:
                if self._spool is None:
                    self._at += os.write(self.write_fd, memoryview(self._held)[self._at : self._at + _SPLICE_BYTES])
                else:
                    self._at += os.sendfile(self.write_fd, self._spool, self._at, _SPLICE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def close(self):
        for fd in (self.write_fd, -1 if self._spool is None else self._spool):
            if fd >= 0:
                os.close(fd)
        self.write_fd, self._spool, self._held = -1, None, bytearray()
