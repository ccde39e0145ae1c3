"""What a piece of Python gives beside its output: representations of its last value, figures, its error. Bounded."""

import json
import os
import sys

MAX_RESULTS = 32
# Of one result: every media type there is, and more.
MAX_REPRESENTATIONS = 64
# Of all representations as the document spells them; with an error of full length it stays below MAX_RESULTS_BYTES.
MAX_DOCUMENT_BYTES = 6 << 20
# Of a text that would be larger.
MAX_CUT_TEXT_BYTES = 1 << 20
_MARKER = "\n...[truncated]"
MAX_FRAMES = 64
MAX_TEXT_CHARS = 4096
MAX_NAME_CHARS = 1024
# A program calls what is in there.
_CALLS_FILE = "<podgate_runner.notebook_calls>"


class Results:
    """`rich`: what the program gives is wanted; else only its error is. `fd` is a memory file for the document, which has
    each result as soon as it is given: a program may be killed later. `representations` is the module of that name."""

    def __init__(self, rich, fd, representations):
        self.rich = rich
        self._representations = representations
        self._fd, self._file, self._owner = fd, identity(fd), os.getpid()
        # With the `display_id` of each, or None.
        self._results = []
        self._omitted = []
        self._bytes = 0
        self._error = None
        self._stale = False

    def value(self, value):
        """True when it was taken, so that nobody prints it."""
        if not self.rich:
            return False
        if value is not None:
            sys.modules["builtins"]._ = value
            self._add("result", *self._representations.of(value))
        return True

    def display(self, *values, raw=False, clear=False, display_id=None, update=False, **_):
        """What notebooks have under that name. With `raw` a value is a dictionary of its representations by media type. With
        `update` it takes the place of what has its `display_id`. Where nobody wants results it prints."""
        if clear:
            self.clear(True)
        if display_id is True:
            display_id = os.urandom(16).hex()
        for value in values:
            if self.rich:
                found = (self._representations.named(value), {}) if raw else self._representations.of(value, True)
                self._add("display", *found, display_id=display_id, update=update)
            else:
                print(repr(value))
        return DisplayHandle(display_id) if display_id else None

    def clear(self, wait=False):
        """With `wait` once there is something new."""
        self._stale = wait
        if not wait:
            self._results, self._omitted, self._bytes = [], [], 0
            self.save()

    def figures(self):
        """Every open matplotlib figure, which is closed then: the next piece of code begins with none."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if not self.rich or pyplot is None:
            return
        try:
            for number in pyplot.get_fignums():
                found, partial = {}, {}
                self._representations.draw(pyplot.figure(number), found, partial)
                self._add("figure", found, partial)
        finally:
            pyplot.close("all")

    def no_figures(self):
        """They are closed, and said to be left out."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if not self.rich or pyplot is None:
            return
        for _ in pyplot.get_fignums():
            self._omit("image/png", "interrupted")
        pyplot.close("all")

    def failed(self, error):
        frames = []
        # Its class and that one's may be the program's, with attributes of their own.
        trace, kind = BaseException.__traceback__.__get__(error), type.__dict__["__name__"].__get__(type(error))
        while trace is not None and len(frames) < MAX_FRAMES:
            code = trace.tb_frame.f_code
            file, name = cut(code.co_filename, MAX_NAME_CHARS), cut(code.co_name, MAX_NAME_CHARS)
            frames.append({"file": file, "line": trace.tb_lineno or 0, "name": name})
            trace = trace.tb_next
        self._error = {"name": cut(kind, MAX_NAME_CHARS), "value": cut(text_of(error)), "frames": frames}

    def save(self):
        # The program may have closed the descriptor, or be a fork of the one that was started.
        if os.getpid() != self._owner or identity(self._fd) != self._file:
            return
        body = {"results": [result for _, result in self._results], "omitted": self._omitted, "error": self._error}
        size = 0
        try:
            document = json.dumps(body, ensure_ascii=True).encode("ascii")
            while size < len(document):
                size += os.pwrite(self._fd, document[size:], size)
        except Exception:
            # There is no room for it.
            size = 0
        os.ftruncate(self._fd, size)

    def _add(self, kind, found, partial, display_id=None, update=False):
        """`partial`: names of those that are not of the whole value, and why."""
        if self._stale:
            self.clear()
        place = self._vacate(display_id) if update else len(self._results)
        data = {}
        for name, value in found.items():
            text = self._representations.text_for(name, value)
            if text is None:
                continue
            text = spelled(text)
            if name == "text/plain" and len(text.encode("utf-8")) > self._representations.MAX_REPRESENTATION_BYTES:
                text, partial[name] = beginning(text), "truncated"
            if len(self._results) >= MAX_RESULTS or len(data) >= MAX_REPRESENTATIONS:
                self._omit(name, "too_many")
            elif len(text.encode("utf-8")) > self._representations.MAX_REPRESENTATION_BYTES or not self._has_room(name, text):
                self._omit(name, "too_large")
            else:
                data[name] = text
                if name in partial:
                    self._omit(name, partial[name])
        if data:
            self._results.insert(place, (display_id, {"kind": kind, "data": data}))
            self.save()

    def _vacate(self, display_id):
        """The place of what is there under an id, which goes; the end where nothing is."""
        for place, (its_id, result) in enumerate(self._results):
            if its_id is not None and its_id == display_id:
                self._bytes -= sum(size_of(name, text) for name, text in result["data"].items())
                del self._results[place]
                return place
        return len(self._results)

    def _has_room(self, name, text):
        size = size_of(name, text)
        if self._bytes + size > MAX_DOCUMENT_BYTES:
            return False
        self._bytes += size
        return True

    def _omit(self, name, reason):
        if len(self._omitted) < MAX_RESULTS:
            self._omitted.append({"type": cut(name, MAX_NAME_CHARS), "reason": reason})

    def outside(self, trace):
        """A traceback from the program's own first frame on: what calls it, or asks for its value, is ours. It calls display
        and show."""
        first, last = trace, None
        while trace is not None and not is_called(trace.tb_frame.f_code):
            if trace.tb_frame.f_code.co_filename.startswith("<podgate_runner."):
                last = trace
            trace = trace.tb_next
        return first if last is None else last.tb_next


class DisplayHandle:
    """What is displayed under an id. What an earlier piece of code displayed has been given: in a later one it comes anew."""

    def __init__(self, display_id):
        self.display_id = display_id

    def __repr__(self):
        return "<DisplayHandle display_id=%s>" % self.display_id

    def display(self, value, **options):
        sys.modules["builtins"].display(value, display_id=self.display_id, **options)

    def update(self, value, **options):
        sys.modules["builtins"].display(value, display_id=self.display_id, update=True, **options)


def size_of(name, text):
    """What is not ASCII takes up to six times as much in the document."""
    return len(json.dumps(name)) + len(json.dumps(text)) + 4


def beginning(text):
    """With a marker, as output that is cut has it."""
    return text.encode("utf-8")[: MAX_CUT_TEXT_BYTES - len(_MARKER)].decode("utf-8", "ignore") + _MARKER


def identity(fd):
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


_CALLED = [call.__code__ for call in (Results.display, DisplayHandle.display, DisplayHandle.update)]


def is_called(code):
    return code in _CALLED or code.co_filename == _CALLS_FILE


def text_of(error):
    try:
        return str(error)
    except BaseException:
        return ""


def cut(text, chars=MAX_TEXT_CHARS):
    return spelled(str(text)[:chars])[:chars]


def spelled(text):
    """Lone surrogates as standard error spells them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
