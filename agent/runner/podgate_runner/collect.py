"""Finds the files that a program made or changed. Nothing is alive by then; nothing but regular files is opened."""

import json
import os
import stat
import time

from podgate_runner import tree
from podgate_runner.digest import sha256
from podgate_runner.limits import (
    CLOCK_TICK_NS,
    MAX_DATA_BYTES,
    MAX_KNOWN_FILES,
    MAX_OMITTED,
    MAX_OMITTED_BYTES,
    MAX_PATH_BYTES,
    MAX_PATH_DEPTH,
    READ_BYTES,
    SPARSE_MIN_BYTES,
    SPARSE_RATIO,
    WALK_STEP_ENTRIES,
)

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Collector:
    """`known` maps path → (inode, size, mtime, ctime, digest or None) of files that were there before; `mains` are
    the code's own."""

    def __init__(self, workspace_fd, mains, known, max_files, max_bytes):
        self._root = workspace_fd
        self._mains = mains
        self._known = known
        self._max_files = max_files
        self._bytes_left = max_bytes
        self.known = {}
        self.chosen = []
        self.omitted = []
        self.omitted_count = 0
        self._omitted_bytes = 0

    def walk(self):
        """Yields now and then, so that the runner can look up; afterwards `chosen` holds the paths to send."""
        seen = 0
        stack = [(os.dup(self._root), b"", None)]
        try:
            stack[0] = (stack[0][0], b"", _entries(stack[0][0]))
            while stack:
                fd, prefix, entries = stack[-1]
                entry = next(entries, None)
                if entry is None:
                    os.close(stack.pop()[0])
                    continue
                seen += 1
                if seen % WALK_STEP_ENTRIES == 0:
                    yield
                name, is_directory = entry
                if is_directory:
                    self._enter(stack, fd, prefix + name, name)
                elif prefix or name not in self._mains:
                    self._look(fd, prefix + name, name)
        finally:
            for fd, _, _ in stack:
                os.close(fd)

    def _enter(self, stack, fd, path, name):
        if len(stack) >= MAX_PATH_DEPTH or len(path) > MAX_PATH_BYTES:
            self._omit(path, "too_deep")
            return
        try:
            deeper = tree.open_directory(name, fd)
            try:
                entries = _entries(deeper)
            except OSError:
                os.close(deeper)
                raise
        except OSError:
            self._omit(path, "unreadable")
            return
        stack.append((deeper, path + b"/", entries))

    def _look(self, fd, path, name):
        try:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError:
            self._omit(path, "unreadable")
            return
        if not stat.S_ISREG(info.st_mode):
            return
        now = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        before = self._known.get(path)
        if before is not None and before[:4] == now:
            self._remember(path, before)
            return
        if before is not None and before[4] is not None and before[1] == info.st_size:
            digest = self._digest(path, info.st_size)
            if digest == before[4]:
                self._remember(path, now + (digest,))
                return
        reason = self._objection(path, info)
        self._remember(path, now + (None,))
        if reason:
            self._omit(path, reason)
        else:
            self._bytes_left -= info.st_size
            self.chosen.append(path)

    def _objection(self, path, info):
        if len(path) > MAX_PATH_BYTES:
            return "path_too_long"
        try:
            path.decode("utf-8")
        except UnicodeDecodeError:
            return "name_not_utf8"
        if info.st_size > SPARSE_MIN_BYTES and info.st_size > info.st_blocks * 512 * SPARSE_RATIO:
            return "sparse"
        if len(self.chosen) >= self._max_files:
            return "files_max"
        if info.st_size > self._bytes_left:
            return "files_max_bytes"
        return None

    def _omit(self, path, reason):
        self.omitted_count += 1
        if len(self.omitted) >= MAX_OMITTED:
            return
        shown = path[:MAX_PATH_BYTES].decode("utf-8", "replace")
        size = len(json.dumps(shown)) + len(reason) + 32
        if self._omitted_bytes + size <= MAX_OMITTED_BYTES:
            self._omitted_bytes += size
            self.omitted.append({"path": shown, "reason": reason})

    def _remember(self, path, state):
        if len(self.known) < MAX_KNOWN_FILES:
            # Whatever changed within the last tick may change again without a trace.
            recent = time.time_ns() - state[3] < CLOCK_TICK_NS
            self.known[path] = (0, state[1], 0, 0, state[4]) if recent else state

    def learn(self, path, digest):
        if path in self.known:
            self.known[path] = self.known[path][:4] + (digest,)

    def _digest(self, path, size):
        digest = sha256(size)
        try:
            with Reader(self._root, path) as reader:
                while True:
                    piece = reader.read(READ_BYTES)
                    if not piece:
                        return digest.digest()
                    digest.update(piece)
        except OSError:
            return None

    def omit_unreadable(self, path):
        self._omit(path, "unreadable")


class Reader:
    """One file below the workspace, also where its owner took the right to read it away."""

    def __init__(self, root_fd, path):
        names = path.split(b"/")
        parent = tree.open_parent(root_fd, names)
        try:
            try:
                self.fd = os.open(names[-1], _FILE, dir_fd=parent)
            except PermissionError:
                if not stat.S_ISREG(os.stat(names[-1], dir_fd=parent, follow_symlinks=False).st_mode):
                    raise
                os.chmod(names[-1], 0o600, dir_fd=parent)
                self.fd = os.open(names[-1], _FILE, dir_fd=parent)
        finally:
            os.close(parent)
        self.size = os.fstat(self.fd).st_size
        self.sent = 0
        self.digest = sha256(self.size)

    def read(self, count=MAX_DATA_BYTES):
        return os.read(self.fd, count)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        os.close(self.fd)


def _entries(fd):
    """(name, is a directory) of a directory, ordered by name so that what is chosen does not depend on the disk."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        # It was opened, and its names can be listed; what they name is out of reach without the right to enter it.
        try:
            os.fchmod(fd, mode | stat.S_IRWXU)
        except OSError:
            pass  # Somebody else's: what cannot be looked at is named.
    with os.scandir(fd) as found:
        entries = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in found]
    entries.sort()
    return iter(entries)
