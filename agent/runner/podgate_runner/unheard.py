"""Output of what a piece of Python has left running: read and dropped, since who writes to a pipe without a reader is ended."""

import os

from podgate_runner.limits import MAX_UNHEARD_PIPES, READ_BYTES


class Unheard:
    def __init__(self, poller):
        self._poller = poller
        self._fds = []

    def take(self, fd):
        """Takes a read end that does not block. Where there are too many the oldest is closed."""
        if len(self._fds) >= MAX_UNHEARD_PIPES:
            self._close(self._fds[0])
        self._fds.append(fd)
        self._poller.forget(fd)
        self._poller.read(fd, lambda: self._drop(fd))

    def _drop(self, fd):
        try:
            if os.read(fd, READ_BYTES):
                return
        except BlockingIOError:
            return
        self._close(fd)

    def _close(self, fd):
        self._fds.remove(fd)
        self._poller.forget(fd)
        os.close(fd)
