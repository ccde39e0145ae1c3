"""What is made ahead gives way to what somebody waits for.

Only root can allow a process to take back the priority that it gave up, so it is allowed once, before root drops; where it
was not, nothing changes. Never below what the sandbox began with.
"""

import os
import resource

# A tenth of the processor time that an ordinary process gets beside it: late under load, never starved.
AHEAD_NICE = 10
# As the kernel writes a nice value into RLIMIT_NICE.
_ZERO = 20

_before = None


def allow():
    """For this process and all that descends from it. Harmless: nobody gets more than they begin with."""
    limit = _ZERO - os.getpriority(os.PRIO_PROCESS, 0)
    try:
        resource.setrlimit(resource.RLIMIT_NICE, (limit, limit))
    except (ValueError, OSError):
        pass


def give_way():
    global _before
    before, (limit, _) = os.getpriority(os.PRIO_PROCESS, 0), resource.getrlimit(resource.RLIMIT_NICE)
    if limit >= _ZERO - before:
        os.setpriority(os.PRIO_PROCESS, 0, min(before + AHEAD_NICE, 19))
        _before = before


def take_turn():
    """Of this process, or of the one that it descends from."""
    if _before is not None:
        os.setpriority(os.PRIO_PROCESS, 0, _before)
