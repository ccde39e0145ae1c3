"""What an interpreter reads of its environment at its start, for a program whose environment came when it had started."""

import os
import sys
import time

_NAMES = ("TZ", "PYTHONPATH", "PYTHONWARNINGS")
_known = {}
_came = False


def warm():
    """In the zygote: what its own environment says is heeded already."""
    _known.update((name, os.environ.get(name)) for name in _NAMES)


def take(environment):
    """In a child: the program's own."""
    global _came
    for name, value in environment.items():
        os.environ[name] = value
        _came = _came or name in _NAMES


def heed():
    """In `sys.path` what is named comes first: the program's own folder is put before it. Whether a module was imported."""
    if not _came:
        return False
    zone, path, warnings = (_news(name) for name in _NAMES)
    if zone is not None:
        time.tzset()
    if path:
        sys.path[:0] = dict.fromkeys(map(os.path.abspath, path.split(os.pathsep)))
    return _filter([option for option in warnings.split(",") if option]) if warnings else False


def _news(name):
    value = os.environ.get(name)
    return None if value == _known.get(name) else value


def _filter(options):
    sys.warnoptions.extend(options)
    known = "warnings" in sys.modules
    # It goes by `warnoptions` when it is imported, and without it the interpreter has filters of its own.
    warnings = __import__("warnings")
    if known:
        warnings._processoptions(options)
    return not known
