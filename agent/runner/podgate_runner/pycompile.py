"""Source as Python itself would compile it, with the last expression echoed as at a prompt."""

import __future__
import _ast
from _io import StringIO

from podgate_runner import outermost

_AWAIT = getattr(_ast, "PyCF_ALLOW_TOP_LEVEL_AWAIT", 0x2000)
FUTURE_FLAGS = 0
for _name in __future__.all_feature_names:
    FUTURE_FLAGS |= getattr(__future__, _name).compiler_flag


def lines_of(source):
    """As the compiler counts them and `linecache` keeps them, for tracebacks: not all that `splitlines` takes for an end is
    one, and carets are placed as if the last had its newline."""
    lines = StringIO(source.decode("utf-8", "replace"), None).readlines()
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    return lines


def compile_file(path, source, interactive, last="single"):
    """Code objects to run one after the other: a last expression prints its value, or with `last` "eval" is it unless a
    semicolon stands behind it, and all of it may await, as in a notebook. Raises what Python raises for source that it does
    not accept."""
    flags = _AWAIT if last == "eval" else 0
    if interactive:
        try:
            return _split(path, source, last, flags)
        # A tree of Python objects needs far more room than the compiler's own.
        except (RecursionError, MemoryError):
            pass
    return [_compile(source, path, "exec", flags, True)]


def _split(path, source, mode, flags):
    tree = _compile(source, path, "exec", _ast.PyCF_ONLY_AST | flags, True)
    if not tree.body or not isinstance(tree.body[-1], _ast.Expr):
        return [_compile(tree, path, "exec", flags, True)]
    last = tree.body[-1]
    if mode == "eval" and is_silenced(source, last):
        return [_compile(tree, path, "exec", flags, True)]
    # A lone string is the module's docstring and its last expression too.
    if len(tree.body) > 1:
        tree.body.pop()
    elif not _is_string(last):
        return [_compile(_echo(last, mode), path, mode, flags, True)]
    body = _compile(tree, path, "exec", flags, True)
    flags |= body.co_flags & FUTURE_FLAGS
    return [body, _compile(_echo(last, mode), path, mode, flags, True)]


def is_silenced(source, statement):
    """Whether a semicolon stands behind it, by which a notebook is told to show no value."""
    line = lines_of(source)[statement.end_lineno - 1].encode("utf-8")
    return line[statement.end_col_offset :].lstrip().startswith(b";")


def _echo(last, mode):
    return _ast.Interactive([last]) if mode == "single" else _ast.Expression(last.value)


def _is_string(statement):
    value = statement.value
    return isinstance(value, _ast.Constant) and isinstance(value.value, str)


def _compile(*args):
    """As deep as the interpreter that compiles its file: how deep a text may nest depends on it."""
    return outermost.call(compile, *args)
