"""Makes runner and zygote dull to look at: no arguments, no environment, no dumps. They keep no secret either way."""

import ctypes
import os
import resource

from podgate_runner import syscalls


def harden(name):
    try:
        _scrub(name)
    except (OSError, ValueError, IndexError):
        pass
    syscalls.set_dumpable(False)
    _forbid_cores()


def _forbid_cores():
    """For all that is forked from here: the filter lets no program change it. Where a machine pipes cores to a program, that
    one runs as root outside of every sandbox, with all the memory of who crashed, and a limit of 0 does not keep it from
    that; a limit of 1 does (man core, fs/coredump.c)."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except (ValueError, OSError):
        # The sandbox's own ceiling.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _scrub(name):
    """/proc/1/cmdline is readable for all whatever prctl says."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    arg_start, arg_end, env_start, env_end = (int(field) for field in fields[45:49])
    environ = dict(os.environ)
    # putenv copies: after this nothing of C's environment lies where it is wiped.
    os.environ.clear()
    os.environ.update(environ)
    for start, end, text in ((arg_start, arg_end, name), (env_start, env_end, b"")):
        if 0 < start < end:
            ctypes.memset(start, 0, end - start)
            ctypes.memmove(start, text, min(len(text), end - start - 1))
