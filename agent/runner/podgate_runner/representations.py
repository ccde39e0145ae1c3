"""Representations of a value by media type, as a notebook asks for them. Each is bounded where it is kept."""

import base64
import io
import json
import sys
import types

MAX_REPRESENTATION_BYTES = 2 << 20
# Of a figure that would be larger.
FEWER_DPI = 50
MAX_ROWS = 1000
_METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("application/pdf", "_repr_pdf_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
)


def of(value, displayed=False):
    """By media type, and names of those that are not of the whole value, with the reason. What fails is left out; what the
    value prints meanwhile is its own output."""
    found, partial = {}, {}
    # Those of some libraries want both names, and those of others take none.
    bundle = call(value, "_repr_mimebundle_", include=None, exclude=None) or call(value, "_repr_mimebundle_")
    if isinstance(bundle, tuple):
        bundle = bundle[0]
    if isinstance(bundle, dict):
        found.update(named(bundle))
    for name, method in _METHODS:
        if name not in found:
            part = call(value, method)
            if isinstance(part, tuple):
                part = part[0]
            if part is not None:
                found[name] = part
    if "image/png" not in found:
        draw_figure(value, displayed, found, partial)
    if "application/json" not in found:
        table, is_whole = table_of(value)
        if table is not None:
            found["application/json"] = table
            if not is_whole:
                partial["application/json"] = "too_many_rows"
    if "text/plain" not in found:
        found["text/plain"] = repr(value)
    return found, partial


def named(bundle):
    return {
        name: part for name, part in bundle.items() if isinstance(name, str) and len(name) < 128 and part is not None
    }


def draw_figure(value, displayed, found, partial):
    """A matplotlib figure as PNG, which has no method for that. One that is open comes by itself at the end: who displays it
    may close it before."""
    module, pyplot = sys.modules.get("matplotlib.figure"), sys.modules.get("matplotlib.pyplot")
    if module is None or not isinstance(value, module.Figure):
        return
    if not displayed and pyplot and any(pyplot.figure(number) is value for number in pyplot.get_fignums()):
        return
    try:
        draw(value, found, partial)
    except Exception:
        pass


def draw(figure, found, partial):
    """With fewer dots where all of them would be too large."""
    for dpi in None, FEWER_DPI:
        file = io.BytesIO()
        figure.savefig(file, format="png", bbox_inches="tight", dpi=dpi)
        found["image/png"] = file.getvalue()
        if len(text_for("image/png", file.getvalue())) <= MAX_REPRESENTATION_BYTES:
            return
        partial["image/png"] = "fewer_dots"


def call(value, method, **options):
    # As a notebook does: of the value's class, and not of what answers to every name.
    found = getattr(type(value), method, None)
    if found is None or isinstance(value, (type, types.ModuleType)):
        return None
    try:
        return found(value, **options)
    except Exception:
        return None


def table_of(value):
    """A pandas table as JSON text, its first rows, and whether those are all."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series)):
        return None, True
    try:
        # With the most decimals that it gives: ten, unless asked, make a p-value of 2.5e-12 zero.
        text = value.head(MAX_ROWS).to_json(orient="split", date_format="iso", double_precision=15)
        return text, len(value) <= MAX_ROWS
    except Exception:
        return None, True


def text_for(name, part):
    if isinstance(part, (bytes, bytearray)):
        return part.decode("utf-8", "replace") if is_text(name) else base64.b64encode(part).decode("ascii")
    if isinstance(part, str):
        return part
    try:
        return json.dumps(part)
    except Exception:
        return None


def is_text(name):
    return name.startswith("text/") or name.endswith(("json", "xml", "javascript"))
