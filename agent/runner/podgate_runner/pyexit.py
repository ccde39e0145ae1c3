"""The end of a Python program: the report of its error, and what a real exit does before the process is gone."""

import atexit
import builtins
import gc
import os
import signal
import sys
from _weakref import ref
from os import _exit, closerange
from _thread import _count as threads_left
from _signal import SIG_DFL, getsignal, raise_signal, signal as set_signal
from sys import __excepthook__ as show, modules

from podgate_runner import outermost, unwritten

_FLUSH_FAILED = 120
_REPORT_OF_3_13 = "_print_exception_bltin"
_SIGNALS = range(1, signal.NSIG)
# What the interpreter gave to the module whose file it was told to run, and takes back unless that exits.
_OF_FILE = ("__file__", "__cached__")
# What the interpreter takes from `sys` before it takes modules. Nothing is found from there on, and so it goes first.
_TAKEN = (
    "meta_path", "path", "argv", "ps1", "ps2", "last_type", "last_value", "last_traceback", "last_exc", "path_hooks",
    "path_importer_cache", "__interactivehook__",
)


def leave(box, known_modules):
    """`box` holds the exception that ended the program, or None, and the names of its module; it is emptied so that nothing
    keeps its frames."""
    code = 0
    interrupted = []
    # What it prints through a file of its own comes before what threads, exits and other processes print from here on.
    flush()
    if box[0] is not None:
        if type(box[0]) is KeyboardInterrupt:
            interrupted.append(True)
            sys.addaudithook(lambda *event: forgets(*event) and interrupted.clear())
        code = report(box[0])
    if not issubclass(type(box[0]), SystemExit):
        for name in _OF_FILE:
            box[1].pop(name, None)
    outermost.call(box.clear)
    whole = True
    try:
        whole = finish(known_modules)
    except BaseException:
        pass
    # Of these the interpreter asks nothing any more: a program may have taken its standard output apart.
    flush()
    if not whole:
        code = _FLUSH_FAILED
    if interrupted:
        set_signal(signal.SIGINT, SIG_DFL)
        raise_signal(signal.SIGINT)
        # Where the program blocks it.
        code = 128 + signal.SIGINT
    if not threads_left():
        # Wakes the runner, which sees that this is the end while the kernel still takes the memory down: departure.py.
        # Beside a thread that never rests it would cost a turn of the interpreter's lock.
        closerange(1, 3)
    _exit(code & 0xFF)


def forgets(event, args):
    """Whether the interpreter forgets that an interrupt ended the program: until 3.13 with each string that is evaluated, but in
    3.13 with none that its own report of the error evaluates."""
    if event != "exec" or sys.version_info >= (3, 14) or getattr(args[0], "co_filename", None) != "<string>":
        return False
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != _REPORT_OF_3_13:
        frame = frame.f_back
    return frame is None


def report(error):
    """The exit code for an exception, after it was shown as the interpreter shows it. Its class may be the program's: like
    the interpreter this asks no attribute of it that a class can have in place of the real one."""
    kind = type(error)
    if issubclass(kind, SystemExit):
        return exit_code(error)
    trace = trace_of(error)
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        write("sys.excepthook is missing\n")
        show(kind, error, trace)
        return 1
    failed = None
    try:
        hook(kind, error, trace)
    except SystemExit as leaving:
        return exit_code(leaving)
    except BaseException as raised:
        failed = BaseException.with_traceback(raised, trace_of(raised).tb_next)
    if failed is not None:
        write("Error in sys.excepthook:\n")
        show(type(failed), failed, trace_of(failed))
        write("\nOriginal exception was:\n")
        show(kind, error, trace)
    return 1


def trace_of(error):
    return BaseException.__traceback__.__get__(error)


def exit_code(error):
    try:
        value = error.code
    except BaseException:
        value = error
    if value is None:
        return 0
    if issubclass(type(value), int):
        number = int.__index__(value)
        # Beyond a C long the interpreter says -1.
        return number if -(2**63) <= number < 2**63 else -1
    try:
        write("%s" % (value,))
    except BaseException:
        pass
    write("\n")
    return 1


def write(text):
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BaseException:
        try:
            os.write(2, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass


def ignore(error, place):
    """Tells of an error that ends nothing, as the interpreter does. Its trace begins with the caller."""
    try:
        write("Exception ignored in: %r\n" % (place,))
        show(type(error), BaseException.with_traceback(error, trace_of(error).tb_next), trace_of(error))
    except BaseException:
        pass


def finish(known_modules):
    """Whether the program's own stdout and stderr took what they held."""
    threading = modules.get("threading")
    if threading is not None:
        try:
            threading._shutdown()
        except BaseException as error:
            ignore(error, threading)
    outermost.call(atexit._run_exitfuncs)
    whole = flush(ignore)
    drop_handlers()
    release(known_modules)
    unwritten.write()
    return whole


def drop_handlers():
    for number in _handled():
        set_signal(number, SIG_DFL)


def _handled():
    return [number for number in _SIGNALS if callable(getsignal(number))]


def release(known_modules):
    """Drops the user's modules as the interpreter does at its end, so that files are flushed and `__del__` runs."""
    if gc.isenabled():
        # Frees nothing that somebody has, but puts whoever holds before what it holds: of what is freed together a file would
        # be closed before the text that waits for it is written.
        outermost.call(gc.collect)
    _forget(_TAKEN)
    left, added = [], _added(known_modules)
    # One after the other: what is freed with one still finds those that are to come. What is no module goes last.
    for name in added:
        if issubclass(type(modules.get(name)), type(sys)):
            left.append(ref(modules[name]))
            outermost.call(modules.__setitem__, name, None)
    for name in added:
        outermost.call(modules.pop, name, None)
    outermost.call(gc.collect)
    for module in left:
        clear(module())


def _forget(names):
    """By a function of C's: what is freed here warns, and looks at frames."""
    if "_" in builtins.__dict__:
        outermost.call(builtins.__dict__.update, {"_": None})
    outermost.call(sys.__dict__.update, dict.fromkeys(names))
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__


def rehearse(main, known_modules):
    """What `finish` and `flush` do, to a module that nobody knows."""
    _handled()
    outermost.call(gc.collect)
    _forget(())
    _added(known_modules)
    clear(main)
    unwritten.is_possible()
    flush()


def _added(known_modules):
    """Names of the user's modules. They come after all that were there before: a look at each of those names would copy
    the page that it lies in, thousands below pandas."""
    names = []
    for name in reversed(modules):
        if name in known_modules:
            if name == known_modules.last and len(modules) - len(names) == len(known_modules):
                break
        else:
            names.append(name)
    names.append("__main__")
    names.reverse()
    return names


def clear(module):
    if module is None or not isinstance(module, type(sys)):
        return
    values = module.__dict__
    for private in (True, False):
        names = [
            name for name in values
            if isinstance(name, str) and name != "__builtins__" and (name[:1] == "_" and name[1:2] != "_") == private
        ]
        outermost.call(values.update, dict.fromkeys(names))


def flush(tell=None):
    """Whether both could be flushed; `tell` is called with what stdout raised, and with it."""
    whole = True
    for name in ("stdout", "stderr"):
        file = getattr(sys, name, None)
        try:
            if file is not None and not is_closed(file):
                file.flush()
        except BaseException as error:
            whole = False
            if tell is not None and name == "stdout":
                tell(error, file)
    return whole


def is_closed(file):
    try:
        return bool(file.closed)
    except BaseException:
        return False
