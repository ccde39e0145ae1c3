"""How many threads a sandbox may have before the kernel refuses one, and for want of what."""

import errno
import os
import threading
import warnings

STACK_BYTES = 32768
PIDS, ELSE = "pids", "else"


def threads(most):
    """(how many, what was wanting for one more; None where none was refused)."""
    threading.stack_size(STACK_BYTES)
    over = threading.Event()
    made = 0
    try:
        while made < most:
            threading.Thread(target=over.wait, daemon=True).start()
            made += 1
    except (RuntimeError, MemoryError):
        return made, wanting()
    finally:
        over.set()
    return made, None


def wanting():
    """A thread that has no memory for its stack is refused in the same words as one that has no pid. A fork is not."""
    # Of threads beside a fork: its child only ends.
    warnings.simplefilter("ignore")
    try:
        pid = os.fork()
    except OSError as error:
        return PIDS if error.errno == errno.EAGAIN else ELSE
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return ELSE
