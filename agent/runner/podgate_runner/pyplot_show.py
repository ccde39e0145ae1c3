"""`pyplot.show()` as notebooks have it: figures that are open are given there and closed, so that the next plot begins anew.

Without it, two plots with a `show()` behind each would be one figure that holds both.
"""

import functools
import sys

_PYPLOT = "matplotlib.pyplot"


def install(give):
    """`give` takes the figures that are open, and says whether anybody wants them."""
    pyplot = sys.modules.get(_PYPLOT)
    if pyplot is None:
        sys.meta_path.insert(0, Finder(give))
    else:
        _replace(pyplot, give)


class Finder:
    """Waits for pyplot, which a program imports when it likes."""

    def __init__(self, give):
        self._give = give
        self._looking = False

    def find_spec(self, name, path=None, target=None):
        if name != _PYPLOT or self._looking:
            return None
        self._looking = True
        try:
            spec = __import__("importlib.util").util.find_spec(name)
        finally:
            self._looking = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            self._follow(spec.loader)
        return spec

    def _follow(self, loader):
        load = loader.exec_module

        def exec_module(module):
            del loader.exec_module
            load(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _replace(module, self._give)

        loader.exec_module = exec_module


def _replace(pyplot, give):
    own = pyplot.show

    @functools.wraps(own)
    def show(*args, **kwargs):
        # Who does not want to wait draws on in the figures that are open.
        if (args[0] if args else kwargs.get("block")) is False or not give():
            return own(*args, **kwargs)

    pyplot.show = show
