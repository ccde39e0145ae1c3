"""What libraries leave to a notebook, where a program's results are wanted: pyplot's `show` and IPython's `display`.

Figures are given where `show` is called, and closed, so that the next plot begins anew: two plots with a `show()` behind
each would else be one figure that holds both. Outside IPython's shell its `display` would only print.
"""

import functools
import sys


def install(results):
    """`results` gives those of the piece of code that runs."""
    finder = Finder(results)
    for name in _CALLS:
        if name in sys.modules:
            finder.replace(sys.modules[name])
    sys.meta_path.insert(0, finder)


class Finder:
    """Waits for the modules, which a program imports when it likes."""

    def __init__(self, results):
        self._results = results
        self._looking = False

    def find_spec(self, name, path=None, target=None):
        if name not in _CALLS or self._looking:
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
            self.replace(module)

        loader.exec_module = exec_module

    def replace(self, module):
        name, call = _CALLS[module.__name__]
        own = vars(module).get(name)
        if own is not None:
            setattr(module, name, functools.wraps(own)(call(own, self._results)))


def _show(own, results):
    def show(*args, **options):
        # Who does not want to wait draws on in the figures that are open.
        if (args[0] if args else options.get("block")) is False or not results().rich:
            return own(*args, **options)
        results().figures()

    return show


def _display(own, results):
    def display(*values, **options):
        if not results().rich:
            return own(*values, **options)
        results().display(*values, **options)

    return display


_CALLS = {
    "matplotlib.pyplot": ("show", _show),
    "IPython.core.display_functions": ("display", _display),
    "IPython.core.display": ("display", _display),
    "IPython.display": ("display", _display),
}
