"""What waits for files that a program did not close and somebody holds still: a hook, say, or a module that was there before
the program and that the interpreter itself would clear."""

import gc
from _io import BufferedRandom, BufferedWriter, TextIOWrapper
from os import close, dup

_KINDS = (TextIOWrapper, BufferedWriter, BufferedRandom)
# The lowest numbers are given first: who has these to give has no file open, or closed as many before it.
_LOOKED_AT = 8


def write():
    if not is_possible():
        return
    files = [each for each in gc.get_objects() if issubclass(type(each), _KINDS)]
    for kind in _KINDS:
        for file in files:
            try:
                kind.flush(file)
            except (TypeError, ValueError, OSError):
                pass  # Of another kind, closed, or nowhere to go.


def is_possible():
    """Whether a descriptor above standard error is open."""
    taken = []
    try:
        while len(taken) < _LOOKED_AT:
            taken.append(dup(0))
            if taken[-1] != 2 + len(taken):
                return True
    except OSError:
        return True
    finally:
        for fd in taken:
            close(fd)
    return False
