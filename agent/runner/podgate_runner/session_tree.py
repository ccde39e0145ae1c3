"""Who descends from whom, as /proc of this PID namespace says."""

import os

from podgate_runner import processes


_ENDED = (b"Z", b"X")


def below(pid, but=()):
    """Every process that descends from `pid` and from none of `but`, which are none of them either."""
    found = _all()
    parents = {own: 0 if own in but else process.parent for own, process in found.items()}
    return [own for own in found if own != pid and descends(own, pid, parents)]


def started_by(program, warden, newest, there):
    """Those of its own that live and were born after `newest`, or then and are not among `there`; an orphan is its own. What
    one that is older started is not."""
    found = _all()
    older = {pid for pid, process in found.items() if not _is_younger(process, newest, there)} - {program, warden}
    # An older one's descend from nobody.
    parents = {pid: 0 if pid in older else process.parent for pid, process in found.items()}
    alive = [pid for pid, process in found.items() if process.state not in _ENDED]
    return [pid for pid in alive if pid not in (program, warden) and descends(pid, warden, parents)]


def _is_younger(process, newest, there):
    return process.born > newest or (process.born == newest and process.pid not in there)


def descends(own, ancestor, parents):
    for _ in range(len(parents) + 1):
        own = parents.get(own, 0)
        if own == ancestor:
            return True
        if own == 0:
            return False
    return False


def _all():
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = (processes.read(proc_fd, pid) for pid in processes.pids(proc_fd))
        return {process.pid: process for process in found if process is not None}
    finally:
        os.close(proc_fd)
