"""Sees that a program is over while the kernel still takes its memory down, which is most of a millisecond after a small one.

A Python program closes its output last (pyexit.py), and that wakes the runner. What it then believes is the kernel alone:
code that closes its output, or says what it likes, is nowhere near its end by that.
"""

import os
import time

from podgate_runner.limits import DEPARTURE_LOOKS, DEPARTURE_PAUSE_SECONDS

_TICKS = os.sysconf("SC_CLK_TCK")
_STAT_BYTES = 4096
# PF_EXITING, of the kernel's sched.h.
_EXITING = 4
# Where in /proc/<pid>/stat, behind the name.
_FLAGS, _CHILD_USER, _CHILD_SYSTEM, _THREADS, _START_CODE, _EXIT_CODE = 6, 13, 14, 17, 23, 49


def departed(proc_fd, inner_pid, pid):
    """(wait status, cpu seconds, time) of a process that will run no instruction of its own any more, with all its threads;
    None where it may, or where nobody can say. `inner_pid` is as `proc_fd` counts, `pid` as this process does.

    Its descriptors are open for a moment still, and its memory is not free: its parent knows when they are.
    """
    try:
        fd = os.open("%d/stat" % inner_pid, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
    except OSError:
        return None
    try:
        for look in range(DEPARTURE_LOOKS):
            if look:
                time.sleep(DEPARTURE_PAUSE_SECONDS)
            if not _is_leaving(_fields(fd)):
                continue
            # A code is shown as 0 to who may not look into a process, and a few kernels let us look when its memory is
            # gone, but not yet in the look that found that. This raises where we may not.
            os.readlink("%d/ns/user" % inner_pid, dir_fd=proc_fd)
            fields = _fields(fd)
            waited = (int(fields[_CHILD_USER]) + int(fields[_CHILD_SYSTEM])) / _TICKS
            return int(fields[_EXIT_CODE]), _cpu(pid) + waited, time.monotonic()
    except (OSError, IndexError):
        # It is gone: its parent says how.
        pass
    finally:
        os.close(fd)
    return None


def _fields(fd):
    data = os.pread(fd, _STAT_BYTES, 0)
    return data[data.rfind(b")") + 2 :].split()


def _is_leaving(fields):
    # Of who is dead already older kernels show the first thread's code, and that may have ended before the others.
    return fields[0] != b"Z" and int(fields[_FLAGS]) & _EXITING and fields[_THREADS] == b"1" and fields[_START_CODE] == b"0"


def _cpu(pid):
    """Seconds that all threads of a process have used: the clock that clock_getcpuclockid names."""
    return time.clock_gettime(~pid << 3 | 2)
