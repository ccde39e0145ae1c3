"""Input of one piece of a session's work. Code is not a file there: work goes on side by side, in a folder that is the user's."""

import os

from podgate_runner.staging import Staging
from podgate_runner.stdin import LiveStdin

# One argument of a program, its end included, may have 131,072 bytes.
MAX_ARGUMENT_BYTES = 131071


class SessionInput(Staging):
    def __init__(self, language, sizes):
        super().__init__(language, sizes)
        self._code = b""

    def _finish(self, kind, path, workspace_fd):
        if kind == "code":
            self._code, self._held = b"".join(self._held), []
        else:
            super()._finish(kind, path, workspace_fd)

    def take_code(self):
        """Once: many megabytes need not be here while they run."""
        code, self._code = self._code, b""
        return code

    def script(self):
        """(arguments for bash, descriptors that it needs). Takes the code."""
        code = self.take_code()
        if len(code) <= MAX_ARGUMENT_BYTES and b"\0" not in code:
            return [b"-c", code], []
        fd = os.memfd_create("script")
        view = memoryview(code)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        return ["/proc/self/fd/3"], [fd]


class LiveSessionInput(SessionInput):
    """Of a program that is fed while it runs."""

    def __init__(self, language, sizes):
        super().__init__(language, sizes)
        self.stdin = LiveStdin()
