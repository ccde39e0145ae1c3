"""Sockets that were sent over each other: they outlive their processes, with every descriptor that was sent beside them, be it
a name that is bound, a port, a terminal or memory. The kernel looks for such sockets when any other is closed, and a moment
later."""

import os
import time
import _socket

from podgate_runner.limits import CYCLES_SECONDS, FREE_PAUSE_SECONDS, READ_BYTES


def count(proc_root):
    """Of all sockets in this network namespace that could be sent so; 0 where nobody says."""
    try:
        fd = os.open(proc_root + "/net/unix", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        lines = 0
        while piece := os.read(fd, READ_BYTES):
            lines += piece.count(b"\n")
        return lines
    finally:
        os.close(fd)


def collect(proc_root, most):
    """Waits while there are more than `most`, for a moment only: others may live in this network namespace, and have more than
    they had. Returns how many there are."""
    deadline = time.monotonic() + CYCLES_SECONDS
    while True:
        found = count(proc_root)
        if found <= most or time.monotonic() > deadline:
            return found
        look()
        time.sleep(FREE_PAUSE_SECONDS)


def look():
    for end in _socket.socketpair():
        end.close()
