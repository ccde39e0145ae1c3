"""What an interpreter reads of its environment at its start, for a program whose environment came when it had started."""

import os
import sys
import time

_NAMES = ("TZ", "PYTHONPATH", "PYTHONWARNINGS")
_known = {}


def warm():
    """In the zygote: what its own environment says is heeded already."""
    _known.update((name, os.environ.get(name)) for name in _NAMES)


def heed():
    """In `sys.path` what is named comes first: the program's own folder is put before it."""
    zone, path, warnings = (_news(name) for name in _NAMES)
    if zone is not None:
        time.tzset()
    if path:
        sys.path[:0] = dict.fromkeys(map(os.path.abspath, path.split(os.pathsep)))
    if warnings:
        _filter([option for option in warnings.split(",") if option])


def _news(name):
    value = os.environ.get(name)
    return None if value == _known.get(name) else value


def _filter(options):
    sys.warnoptions.extend(options)
    warnings = sys.modules.get("warnings")
    # It goes by `warnoptions` when it is imported.
    if warnings is not None:
        warnings._processoptions(options)
