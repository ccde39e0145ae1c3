"""Input of one execution as it arrives: manifest, code, stdin, files, each at once to where it belongs."""

import errno
import json
import os
import time

from podgate_runner import tree
from podgate_runner.digest import sha256
from podgate_runner.limits import MAX_CODE_BYTES, MAX_MANIFEST_BYTES
from podgate_runner.stdin import Stdin

MAIN_NAMES = {"python": "__main__.py", "bash": "__main__.sh", "node": "__main__.js"}
# Files that may be collected are dated back, so that even a write within the same tick of the kernel's clock changes their
# times.
_BACKDATE_NS = 10 * 1000000000
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StageError(Exception):
    """A sentence for the caller: input that cannot be staged. `why`: "no_room", "in_the_way" where what is in the workspace
    is, or None."""

    def __init__(self, detail, why=None):
        super().__init__(detail)
        self.why = why


class Staging:
    dates_back = True

    def __init__(self, language, sizes):
        if sizes["manifest"] > MAX_MANIFEST_BYTES or sizes["code"] > MAX_CODE_BYTES:
            raise StageError("The manifest or the code is too large.")
        self.main_name = MAIN_NAMES[language]
        # The path of the code's own file, which no other may have.
        self.reserved = [self.main_name.encode()]
        self.args, self.env, self.stdin = [], {}, Stdin()
        # Path → (inode, size, mtime, ctime, digest) of every file that was staged.
        self.staged = {}
        self._sections = [("manifest", sizes["manifest"], None), ("code", sizes["code"], None)]
        self._sections.append(("stdin", sizes["stdin"] or 0, None))
        self._files_bytes = sizes["files"]
        self.total = sizes["manifest"] + sizes["code"] + (sizes["stdin"] or 0) + sizes["files"]
        self._left = sizes["manifest"]
        self._held = []
        self._file = None
        self._digest = None

    @property
    def done(self):
        return not self._sections

    def feed(self, data, workspace_fd):
        view = memoryview(data)
        while self._sections:
            kind, _, path = self._sections[0]
            named = path
            try:
                if self._left:
                    piece = view[: self._left]
                    if not piece:
                        return
                    self._take(kind, piece, workspace_fd)
                    self._left -= len(piece)
                    view = view[len(piece) :]
                if self._left:
                    return
                self._finish(kind, path, workspace_fd)
                self._sections.pop(0)
                named = self._sections[0][2] if self._sections else path
                self._begin(workspace_fd)
            except OSError as error:
                raise self._trouble(kind, named, error) from None

    def _trouble(self, kind, path, error):
        what = _named(path or ("stdin" if kind == "stdin" else self.main_name))
        if error.errno in _NO_ROOM:
            return StageError("The workspace has no room for %s." % what, "no_room")
        return StageError("%s: %s." % (what, error.strerror), "in_the_way")

    def _begin(self, workspace_fd):
        if not self._sections:
            return
        kind, self._left, path = self._sections[0]
        if kind == "file":
            self._file = self._create(workspace_fd, tree.split(path))
            self._digest = sha256(self._left)

    def _create(self, workspace_fd, names):
        return tree.create_file(workspace_fd, names)

    def _take(self, kind, piece, workspace_fd):
        if kind == "file":
            self._digest.update(piece)
            _write(self._file, piece)
        elif kind == "stdin":
            self.stdin.append(piece, workspace_fd)
        else:
            self._held.append(bytes(piece))

    def _finish(self, kind, path, workspace_fd):
        if kind == "manifest":
            self._read_manifest(b"".join(self._held))
        elif kind == "code":
            fd = tree.create_file(workspace_fd, [self.main_name.encode()])
            try:
                for piece in self._held:
                    _write(fd, piece)
            finally:
                os.close(fd)
        elif kind == "file":
            fd, self._file = self._file, None
            if self.dates_back:
                past = time.time_ns() - _BACKDATE_NS
                os.utime(fd, ns=(past, past))
            stat = os.fstat(fd)
            os.close(fd)
            times = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            self.staged[b"/".join(tree.split(path))] = times + (self._digest.digest(),)
        if kind in ("manifest", "code"):
            self._held = []

    def _read_manifest(self, raw):
        try:
            manifest = json.loads(raw.decode("utf-8")) if raw else {}
            self.args = [_plain(arg) for arg in manifest.get("args", [])]
            self.env = {_name(name): _plain(value) for name, value in manifest.get("env", {}).items()}
            files = [(item["path"], item["size"]) for item in manifest.get("files", [])]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise StageError("The manifest is not what the protocol says.") from None
        for path, size in files:
            self._plan(path, size)
        if sum(size for _, size in files) != self._files_bytes:
            raise StageError("The manifest's files have another size than was announced.")

    def _plan(self, path, size):
        if not isinstance(path, str) or type(size) is not int or size < 0:
            raise StageError("The manifest is not what the protocol says.")
        try:
            names = tree.split(path)
        except tree.PathError as error:
            raise StageError("%s: the path %s." % (_named(path), error)) from None
        if names == self.reserved:
            raise StageError("%s: the path is reserved." % _named(path))
        self._sections.append(("file", size, path))

    def close(self):
        self.stdin.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _write(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _plain(text):
    if "\0" in text:
        raise ValueError
    text.encode("utf-8")
    return text


def _name(text):
    if not text or "=" in text:
        raise ValueError
    return _plain(text)


def _named(path):
    return "".join(c if c.isprintable() else "?" for c in path[:200]).encode("utf-8", "replace").decode()
