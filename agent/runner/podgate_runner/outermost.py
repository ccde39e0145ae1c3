"""Calls without a frame of ours below: a program sees what it would see under `python file`, wherever it asks.

The interpreter has no call for that. It keeps its current frame in one word of memory, and a frame that begins while that
word is null is an outermost one, as the first of every interpreter is. The word is searched for once, by its value, and
then tried in a child; where either fails, nothing is touched, and a program that asks sees our frames. So with the number
by which it counts how deep a recursion is: without it one ends as many calls early as frames of ours are below.
"""

import ctypes
import os
import sys

_WORD_BYTES = ctypes.sizeof(ctypes.c_void_p)
_INT_BYTES = ctypes.sizeof(ctypes.c_int)
# In a frame object from 3.11 on: the frame that the interpreter itself works with.
_INNER_FRAME = 3 * _WORD_BYTES
# Of a thread's state, which is larger in every version.
_STATE_WORDS = 32
# 3.11 and 3.12 keep the word in a record on the C stack that this word of the state leads to.
_RECORD = 7 * _WORD_BYTES
_RECORD_WORDS = 2

# Where the number stands that counts calls: behind the frame until 3.10, then with its limit, from which it counts down.
_STATE_INTS = 2 * _STATE_WORDS
_COUNTS_DOWN = sys.version_info >= (3, 11)
# Until 3.11 a call of C's counts too: the one of `exec`.
_AT_CALL = 0 if sys.version_info >= (3, 12) else 1 if _COUNTS_DOWN else -1
_OWN_CALLS = 100 if _COUNTS_DOWN else -100
_MAX_FRAMES = 100

# What takes trace and profile functions away, and is itself seen by none.
_CLEARING = ("PyEval_SetTrace", "PyEval_SetProfile")
_clearing = ()

_Words = ctypes.POINTER(ctypes.c_void_p)
_nowhere = ctypes.pointer(ctypes.c_void_p())
# The word is the one of this number behind where this leads. Nothing else of ctypes writes without an audit event, and a
# program's hook would see that, or refuse it.
_words, _number = _nowhere, 0
_depth = _limit = None


def warm():
    """In the zygote, before anything is called: what is found holds for all that it forks."""
    global _clearing
    if sys.implementation.name == "cpython":
        _clearing = tuple(getattr(ctypes.pythonapi, name) for name in _CLEARING)
        for clear in _clearing:
            clear.restype, clear.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p]
    try:
        _search()
        if not _holds():
            _forget_depth()
            if not _holds():
                _forget()
    except Exception:
        _forget()


def call(function, *args):
    """`function` must be C's, as `exec` is: a Python function's frame would begin without a look at the word. What it raises
    has one frame of ours, this one. With the return from here the word is what it was. What traces or profiles the program
    ends with it: it would see our frames, and where the word is null it would end the process."""
    _words[_number] = None
    if _depth is not None:
        _depth.value = _limit.value + _AT_CALL
    try:
        return function(*args)
    finally:
        if _depth is not None:
            # What the program leaves as its limit may be less than we need.
            _depth.value = _limit.value + _OWN_CALLS
        for clear in _clearing:
            clear(None, None)


def _search():
    global _words, _number, _depth, _limit
    # Other interpreters have no such word, and one without its lock looks along the frames for what is alive.
    if sys.implementation.name != "cpython" or "t" in sys.abiflags:
        return
    state = ctypes.pythonapi.PyThreadState_Get
    state.restype, state.argtypes = ctypes.c_void_p, []
    address = state()
    _search_depth(address)
    frame = id(sys._getframe())
    if sys.version_info >= (3, 11):
        frame = _at(frame + _INNER_FRAME).value
    for number in range(_STATE_WORDS):
        if _at(address + number * _WORD_BYTES).value == frame:
            _words = ctypes.pointer(_at(address + number * _WORD_BYTES))
            if not _COUNTS_DOWN:
                _depth, _limit = _int(address + (number + 1) * _WORD_BYTES), ctypes.c_int(0)
            return
    if (3, 11) <= sys.version_info < (3, 13):
        record = _Words.from_address(address + _RECORD)
        for number in range(_RECORD_WORDS):
            if record[number] == frame:
                _words, _number = record, number
                return


def _search_depth(state):
    global _depth, _limit
    limit = sys.getrecursionlimit()
    for number in range(1, _STATE_INTS if _COUNTS_DOWN else 0):
        left, most = _int(state + (number - 1) * _INT_BYTES), _int(state + number * _INT_BYTES)
        # More than the limit where another copy of this module has called: see `call`.
        if most.value == limit and limit - _MAX_FRAMES < left.value < limit + _OWN_CALLS:
            _depth, _limit = left, most
            return


def _at(address):
    return ctypes.c_void_p.from_address(address)


def _int(address):
    return ctypes.c_int.from_address(address)


def _forget():
    global _words, _number
    _words, _number = _nowhere, 0
    _forget_depth()


def _forget_depth():
    global _depth
    _depth = None


_TRIAL = """
import sys
def depth(frame=None):
    frame, frames = sys._getframe(), 0
    while frame is not None: frame, frames = frame.f_back, frames + 1
    return frames
depths = [depth(), *(depth() for _ in "x")]
sys.setrecursionlimit(300)
def deep(calls):
    try: return deep(calls + 1)
    except RecursionError: return calls
calls = deep(1)
raise LookupError
"""


def _holds():
    """A child that dies of it is an answer too."""
    pid = os.fork()
    if pid == 0:
        seen = {}
        try:
            call(exec, _TRIAL, seen)
        except LookupError as error:
            alone = error.__traceback__.tb_next.tb_next.tb_next is None and sys._getframe(1) is not None
            counted = _depth is None or seen["calls"] == 299
            os._exit(0 if seen["depths"] == [2, 3] and alone and counted else 1)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0
