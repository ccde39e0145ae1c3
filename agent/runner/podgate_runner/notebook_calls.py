"""What libraries leave to a notebook, where a program's results are wanted: `show` of pyplot and Plotly, IPython's `display`,
`publish_display_data` and `clear_output`; and what to write in place of its commands.

Figures are given where `show` is called, and closed, so that the next plot begins anew: two plots with a `show()` behind
each would else be one figure that holds both. Outside IPython's shell its `display` would only print,
`publish_display_data` make such a shell, which has no front end, and Plotly look for a browser.
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
        for name, call in _CALLS[module.__name__].items():
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
        return results().display(*values, **options)

    return display


def _publish(own, results):
    def publish_display_data(data, *args, **options):
        if not results().rich:
            return own(data, *args, **options)
        place = (options.get("transient") or {}).get("display_id")
        results().display(data, raw=True, display_id=place, update=options.get("update", False))

    return publish_display_data


def _clear_output(own, results):
    def clear_output(wait=False):
        if not results().rich:
            return own(wait)
        results().clear(wait)

    return clear_output


def _show_plotly(own, results):
    renderers = own.__globals__.get("renderers")
    # Without a browser there is none, and a figure has no HTML then.
    if getattr(renderers, "default", 0) in ("", "browser"):
        renderers.default = "plotly_mimetype"

    def show(figure, renderer=None, *args, **options):
        if renderer:
            return own(figure, renderer, *args, **options)
        if isinstance(figure, dict):
            figure = __import__("plotly.graph_objs").graph_objs.Figure(figure)
        results().display(figure)

    return show


_IPYTHON = {"display": _display, "publish_display_data": _publish, "clear_output": _clear_output}
_CALLS = {
    "matplotlib.pyplot": {"show": _show},
    "plotly.io._renderers": {"show": _show_plotly},
    "IPython.core.display_functions": _IPYTHON,
    "IPython.core.display": _IPYTHON,
    "IPython.display": _IPYTHON,
}


def explain(error):
    """IPython's own syntax is an error like any other to the compiler."""
    line = (error.text or "").lstrip().rpartition(" = ")[2]
    if line.startswith("!") or line.startswith("%") and line.lstrip("%")[:1].isalpha():
        error.msg += _NO_COMMANDS


_NO_COMMANDS = (
    " (what begins with ! or % is IPython's and unknown here: run commands with subprocess, and leave %magic out)"
)
