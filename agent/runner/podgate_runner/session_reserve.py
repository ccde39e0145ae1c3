"""Descriptors that an interpreter of a session keeps for its next piece: code that leaves none free would lose with its
interpreter all that is remembered."""

import fcntl
import os
import resource

from podgate_runner.session_results import identity


class Reserve:
    def __init__(self, count):
        self._count = count
        self._fds = {}

    def take(self):
        """Above those that code is given, as far as some are free."""
        first = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - self._count
        try:
            file = os.memfd_create("reserve")
            try:
                while len(self._fds) < self._count:
                    fd = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, first)
                    self._fds[fd] = identity(fd)
            finally:
                os.close(file)
        except (OSError, ValueError, OverflowError):
            pass

    def release(self):
        """What has another file by now is the program's."""
        for fd, file in self._fds.items():
            if identity(fd) == file:
                os.close(fd)
        self._fds.clear()
