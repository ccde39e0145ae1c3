"""Input of one piece of a session's work. Code is not a file there: work goes on side by side, in a folder that is the user's.

A file stands under its own name once it is whole: what was there before is there until then, and folders that lead to it are
made then.
"""

import errno
import itertools
import os
import stat

from podgate_runner import tree
from podgate_runner.staging import Staging
from podgate_runner.stdin import LiveStdin

# One argument of a program, its end included, may have 131,072 bytes.
MAX_ARGUMENT_BYTES = 131071
# A file is dated no further ahead than this, by edits in the same second.
_AHEAD_SECONDS = 10
# Of one runner, whose work goes on side by side.
_parts = itertools.count()


class SessionInput(Staging):
    # What is built there goes by the times of what it is built from.
    dates_back = False

    def __init__(self, language, sizes):
        super().__init__(language, sizes)
        self._code = b""
        # Of the file that is being written: descriptor of the deepest directory on its way that is there, its name in that
        # until it is whole, and what is left of the way.
        self._part = None

    def _create(self, workspace_fd, names):
        fd, left = _open_deepest(workspace_fd, names)
        try:
            if len(left) == 1 and _is_directory(left[0], fd):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            part = b".podgate-part-%d-%d" % (os.getpid(), next(_parts))
            file = tree.create_file(fd, [part])
        except BaseException:
            os.close(fd)
            raise
        self._part = (fd, part, left)
        return file

    def _finish(self, kind, path, workspace_fd):
        if kind == "file":
            self._name()
        if kind == "code":
            self._code, self._held = b"".join(self._held), []
        else:
            super()._finish(kind, path, workspace_fd)

    def _name(self):
        fd, part, left = self._part
        with tree.Made() as made:
            parent_fd = tree.open_parent(fd, left, made.make, tree.pass_through)
            try:
                _tell_apart(part, fd, left[-1], parent_fd)
                os.rename(part, left[-1], src_dir_fd=fd, dst_dir_fd=parent_fd)
            finally:
                os.close(parent_fd)
        self._part = None
        os.close(fd)

    def take_code(self):
        """Once: many megabytes need not be here while they run."""
        code, self._code = self._code, b""
        return code

    def script(self):
        """(arguments for bash, descriptors that it needs). Takes the code."""
        code = self.take_code()
        if len(code) <= MAX_ARGUMENT_BYTES and b"\0" not in code:
            return [b"-c", b"--", code], []
        fd = os.memfd_create("script")
        view = memoryview(code)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        return ["/proc/self/fd/3"], [fd]

    def close(self):
        super().close()
        if self._part is not None:
            (fd, part, _), self._part = self._part, None
            try:
                os.unlink(part, dir_fd=fd)
            except OSError:
                pass  # Whose folder it is has closed it, or taken the part away.
            finally:
                os.close(fd)


class LiveSessionInput(SessionInput):
    """Of a program that is fed while it runs."""

    def __init__(self, language, sizes):
        super().__init__(language, sizes)
        self.stdin = LiveStdin()


def _open_deepest(root_fd, names):
    """(Descriptor of the deepest directory on the way to names[-1] that is there, the names from there on)."""
    fd = os.dup(root_fd)
    try:
        for at, name in enumerate(names[:-1]):
            try:
                deeper = tree.pass_through(name, fd)
            except FileNotFoundError:
                return fd, names[at:]
            os.close(fd)
            fd = deeper
        return fd, names[-1:]
    except BaseException:
        os.close(fd)
        raise


def _tell_apart(part, part_fd, name, dir_fd):
    """Python goes by seconds and size: what replaces a file of the same is dated the next second, or its byte code would be
    taken for the new one's."""
    try:
        old = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        new = os.stat(part, dir_fd=part_fd, follow_symlinks=False)
        if old.st_size == new.st_size and 0 <= int(old.st_mtime) - int(new.st_mtime) < _AHEAD_SECONDS:
            times = (int(old.st_mtime) + 1,) * 2
            os.utime(part, times, dir_fd=part_fd, follow_symlinks=False)
    except OSError:
        pass  # There is none, or whose folder it is has been quicker.


def _is_directory(name, dir_fd):
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
