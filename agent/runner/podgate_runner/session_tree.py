"""Who descends from whom, as /proc of this PID namespace says."""

import os

from podgate_runner import processes


def children_of(pid):
    return [own for own, parent in _parents().items() if parent == pid]


def below(pid):
    """Every process that descends from `pid`."""
    parents = _parents()
    return [own for own in parents if own != pid and descends(own, pid, parents)]


def descends(own, ancestor, parents):
    for _ in range(len(parents) + 1):
        own = parents.get(own, 0)
        if own == ancestor:
            return True
        if own == 0:
            return False
    return False


def _parents():
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = (processes.read(proc_fd, pid) for pid in processes.pids(proc_fd))
        return {process.pid: process.parent for process in found if process is not None}
    finally:
        os.close(proc_fd)
