"""Room for threads whose stacks are larger than usual: the kernel counts a whole stack as data, used or not.

The room is given when such a thread begins. What of a stack is used is memory as any other, which the runner watches.
"""

import sys
import _thread
from os import listdir
from resource import RLIMIT_DATA, getrlimit, setrlimit

from podgate_runner.limits import THREAD_STACK_BYTES

_STARTS = ("start_new_thread", "start_new", "start_joinable_thread")
_size = _thread.stack_size
# RLIMIT_DATA as it was before any such thread, and as it was left with the last of them.
_own = _given = None


class _Preceded:
    """A function of C's, and what is done before each call of it: no frame of that is left for a traceback to show."""

    __module__ = "_thread"

    def __init__(self, function, first):
        self._function, self._first, self.__doc__ = function, first, function.__doc__

    def __getattr__(self, name):
        return getattr(self._function, name)

    def __repr__(self):
        return repr(self._function)

    @property
    def __call__(self):
        self._first()
        return self._function


def warm():
    """In the zygote. A program that asks for no size finds the library's own functions where threads begin."""
    _size(THREAD_STACK_BYTES)
    _precede(["stack_size"], lambda: _precede(_STARTS, _make_room))


def _precede(names, first):
    for name in names:
        function = getattr(_thread, name, None)
        if function is None or type(function) is _Preceded:
            continue
        for module in (_thread, sys.modules.get("threading")):
            for alias in (name, "_" + name):
                if getattr(module, alias, None) is function:
                    setattr(module, alias, _Preceded(function, first))


def _make_room():
    global _own, _given
    # Who asks for the size sets it, to the machine's own.
    size = _size()
    _size(size)
    if size <= THREAD_STACK_BYTES:
        return
    soft, hard = getrlimit(RLIMIT_DATA)
    if soft != _given:
        _own = soft
    if 0 <= _own < hard:
        _given = min(max(soft, _own + _stacks() * size), hard)
        setrlimit(RLIMIT_DATA, (_given, hard))


def _stacks():
    """How many there will be at most. As many as the kernel has tasks: this one begins another, and one that has just ended
    may still have its own. Since 3.13 one that nobody has joined keeps it as long as there is its object."""
    threads = len(getattr(sys.modules.get("threading"), "_dangling", ())) - 1
    try:
        return max(threads, len(listdir("/proc/self/task")))
    except OSError:
        return max(threads, _thread._count() + 1)
