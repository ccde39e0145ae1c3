"""Runs a Python file as `python -u file` would, in a process that has already begun."""

import builtins
import gc
import os
import sys
from _frozen_importlib_external import SourceFileLoader

from podgate_runner import AT_START, late_environment, outermost, pycompile, pyexit


class _Known(frozenset):
    """Names of modules; `last` is the one that was imported last."""

    last = None


_known_modules = _Known()
_ours = frozenset()


def claim():
    """In the zygote, before it imports what the template says: loads what the interpreter itself imports to report an error.
    A file beside a program takes the place of what is there then, and would not be at an interpreter's start."""
    global _ours
    if sys.version_info >= (3, 13):
        __import__("traceback")
    _ours = frozenset(sys.modules).difference(AT_START, sys.builtin_module_names)


def warm():
    """In the zygote: remembers what was there."""
    outermost.warm()
    late_environment.warm()
    # From 3.13 on the text that began this interpreter is there, and stood for any that a program evaluates.
    for name in ("cache", "_interactive_cache"):
        getattr(sys.modules.get("linecache"), name, {}).clear()
    forget_podgate()
    _remember()
    # Executions must not share what the importer remembers of directories that user code writes.
    sys.path_importer_cache.clear()


def _remember():
    global _known_modules
    _known_modules = _Known(sys.modules)
    _known_modules.last = next(reversed(sys.modules), None)


def rehearse():
    """Goes through a program that does nothing. In the zygote that leaves the interpreter's own caches filled; in a child
    that waits for its job it copies the pages that every program writes to, so that no program waits for them."""
    before = {name: getattr(sys, name) for name in ("argv", "orig_argv") if hasattr(sys, name)}
    path, real = sys.path[:], sys.modules["__main__"]
    begin(os.devnull, [], True)
    main = sys.modules["__main__"]
    for code in pycompile.compile_file("<none>", b"import sys\nprint(end='')\n", True):
        outermost.call(exec, code, main.__dict__)
    if sys.stderr is not None:
        sys.stderr.write("")
    sys.path[:], sys.modules["__main__"] = path, real
    for name, value in before.items():
        setattr(sys, name, value)
    linecache = sys.modules.get("linecache")
    if linecache is not None:
        linecache.cache.pop(os.devnull, None)
    pyexit.rehearse(main, _known_modules)


def forget_podgate():
    """User code finds no module of ours."""
    loader = sys.modules["podgate_runner"].__spec__.loader
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not loader]
    _forget({"podgate_runner"})


def _forget(names):
    """These modules and all below them."""
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]


def _give_way(folder):
    try:
        beside = {name for name, _, kind in (entry.partition(".") for entry in os.listdir(folder)) if kind in ("", "py")}
    except OSError:
        return
    if not _ours.isdisjoint(beside):
        _forget(_ours & beside)
        _remember()


def run(path, args, interactive):
    """Never returns."""
    error, names = None, {}
    try:
        codes = begin(path, args, interactive)
    except BaseException as raised:
        error = raised.with_traceback(None)
    else:
        # What it makes of its place in `sys.modules` is the same to its last expression.
        names = sys.modules["__main__"].__dict__
        for code in codes:
            try:
                outermost.call(exec, code, names)
            except BaseException as raised:
                # The class may be the program's, with methods of its own.
                error = BaseException.with_traceback(raised, _above_ours(sys.exc_info()[2]))
                break
        del code, codes
    box = [error, names]
    del error, names
    pyexit.leave(box, _known_modules)


def _above_ours(trace):
    """Without our two frames, which a program may have thrown away itself."""
    for _ in range(2):
        trace = trace and trace.tb_next
    return trace


def begin(path, args, interactive, last="single"):
    sys.argv = [path] + args
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.executable, "-u", path] + args
    if late_environment.heed():
        _remember()
    sys.path.insert(0, os.path.dirname(path))
    _give_way(sys.path[0])
    main = type(sys)("__main__")
    main.__loader__ = SourceFileLoader("__main__", path)
    # In the interpreter's order, for who prints them.
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    main.__builtins__ = builtins
    main.__file__ = path
    main.__cached__ = None
    sys.modules["__main__"] = main
    # It is older than all that it will hold, as in the interpreter: what is freed at the end goes in that order.
    gc.collect(0)
    with open(path, "rb", buffering=0) as file:
        source = file.read()
    linecache = sys.modules.get("linecache")
    codes = pycompile.compile_file(path, source, interactive, last)
    # What declares an encoding it reads for itself, from the file.
    if linecache is not None and b"coding" not in b"".join(source.split(b"\n", 2)[:2]):
        linecache.cache[path] = (len(source), None, pycompile.lines_of(source), path)
    return codes
