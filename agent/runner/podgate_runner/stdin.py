"""The program's stdin: spooled while input arrives, fed through a pipe, closed at its end."""

import os

from podgate_runner.limits import STDIN_MEMORY_BYTES

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
        if self._size:
            # However little it is: of a user who has many pipes, new ones hold a page or two.
            os.set_blocking(self.write_fd, False)
        self.feed()
        return read_fd

    def feed(self):
        """Writes what the pipe takes. A reader that is gone wants no more."""
        try:
            self._feed_announced()
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def _feed_announced(self):
        while self._at < self._size:
            if self._spool is None:
                self._at += os.write(self.write_fd, memoryview(self._held)[self._at : self._at + _SPLICE_BYTES])
            else:
                self._at += os.sendfile(self.write_fd, self._spool, self._at, _SPLICE_BYTES)

    def close(self):
        for fd in (self.write_fd, -1 if self._spool is None else self._spool):
            if fd >= 0:
                os.close(fd)
        self.write_fd, self._spool, self._held = -1, None, bytearray()


class LiveStdin(Stdin):
    """stdin that stays open: what was announced, then what comes while the program runs, one window of it at most."""

    def __init__(self):
        super().__init__()
        self._coming = bytearray()
        self._ending = False
        # Bytes of what came that the program's end of it took, or never will.
        self.taken = 0

    @property
    def waiting(self):
        """Whether there is something to write, and somewhere."""
        return self.write_fd >= 0 and (bool(self._coming) or self._at < self._size)

    def open(self):
        read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.write_fd, False)
        return read_fd

    def use(self, fd):
        """Writes to this descriptor, which is open in both directions."""
        os.set_blocking(fd, False)
        self.write_fd = fd

    def push(self, data):
        self._coming += data

    def end(self):
        """Closes it behind what came."""
        self._ending = True

    def feed(self):
        try:
            if self.write_fd >= 0:
                self._feed_announced()
                self._feed_coming()
        except BlockingIOError:
            return
        except OSError:
            self._ending = True
        if self._ending or self.write_fd < 0:
            self.taken += len(self._coming)
            self._coming = bytearray()
            self.close()

    def _feed_coming(self):
        while self._coming:
            count = os.write(self.write_fd, self._coming)
            self.taken += count
            del self._coming[:count]
