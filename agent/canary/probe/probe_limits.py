"""How many threads a sandbox may have before the kernel refuses one."""

import threading

STACK_BYTES = 32768


def threads(most):
    """(how many, whether one more was refused)."""
    threading.stack_size(STACK_BYTES)
    over = threading.Event()
    made = 0
    try:
        while made < most:
            threading.Thread(target=over.wait, daemon=True).start()
            made += 1
    except (RuntimeError, MemoryError):
        return made, True
    finally:
        over.set()
    return made, False
