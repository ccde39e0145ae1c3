"""Results of a piece of Python on their way to the agent: one document, from a memory file that user code's process wrote."""

import os

from podgate_runner.digest import sha256
from podgate_runner.limits import MAX_DATA_BYTES, MAX_RESULTS_BYTES
from podgate_runner.outbox import FILES


class ResultsOut:
    """Sends what the interpreter wrote as results, as credit allows; an empty document where it wrote more than it may."""

    collector = None
    walking = False

    def __init__(self, outbox, fd):
        self._outbox = outbox
        self._fd = fd
        size = os.fstat(fd).st_size
        self._size = size if size <= MAX_RESULTS_BYTES else 0
        self._sent = 0
        self._digest = sha256(self._size)

    def pump(self):
        while self._sent < self._size:
            room = min(self._outbox.room(), MAX_DATA_BYTES, self._size - self._sent)
            if room <= 0:
                return False
            piece = os.pread(self._fd, room, self._sent)
            if not piece:
                break
            self._digest.update(piece)
            self._sent += len(piece)
            self._outbox.data(FILES, piece)
        self._outbox.end_file("results", self._sent, self._digest.hexdigest())
        return True

    def close(self):
        """The descriptor is the execution's."""


def memory_file(data):
    fd = os.memfd_create("code")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
