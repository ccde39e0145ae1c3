"""Paths below a directory that user code owns: every step through a descriptor, no link followed."""

import os

from podgate_runner.limits import MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_PATH_DEPTH

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PathError(ValueError):
    pass


def split(path):
    """A request's path as names. Raises PathError with the rule that it breaks."""
    try:
        raw = path.encode("utf-8")
    except UnicodeEncodeError:
        raise PathError("is not UTF-8") from None
    if not raw:
        raise PathError("is empty")
    if b"\0" in raw:
        raise PathError("holds a NUL")
    if len(raw) > MAX_PATH_BYTES:
        raise PathError("is longer than %d bytes" % MAX_PATH_BYTES)
    if raw.startswith(b"/"):
        raise PathError("is not relative")
    if raw.endswith(b"/"):
        raise PathError("names a directory")
    names = [name for name in raw.split(b"/") if name not in (b"", b".")]
    if not names:
        raise PathError("names a directory")
    if b".." in names:
        raise PathError("contains '..'")
    if len(names) > MAX_PATH_DEPTH or any(len(name) > MAX_NAME_BYTES for name in names):
        raise PathError("is too deep or holds a name longer than %d bytes" % MAX_NAME_BYTES)
    return names


def enter(name, dir_fd):
    """A descriptor of a directory."""
    return os.open(name, _DIRECTORY, dir_fd=dir_fd)


def pass_through(name, dir_fd):
    """A descriptor for reaching what a directory holds, not for listing it: that takes the right to enter, not to read."""
    return os.open(name, _DIRECTORY | os.O_PATH, dir_fd=dir_fd)


def open_directory(name, dir_fd):
    """Opens a directory even if its owner took the rights away, which are back from then on. Nothing else may be running."""
    try:
        return enter(name, dir_fd)
    except PermissionError:
        # chmod follows links, but open has just said that this is a directory without the right to read it.
        if os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode & 0o170000 != 0o040000:
            raise
        os.chmod(name, 0o700, dir_fd=dir_fd)
        return enter(name, dir_fd)


def make_directory(name, dir_fd):
    os.mkdir(name, 0o755, dir_fd=dir_fd)


class Made:
    """Directories that are made within it: where that fails they go again, but for those that hold something by then."""

    def __init__(self):
        # (Descriptor of the directory that holds it, its name), the deepest last.
        self._made = []

    def make(self, name, dir_fd):
        fd = os.dup(dir_fd)
        try:
            make_directory(name, fd)
        except BaseException:
            os.close(fd)
            raise
        self._made.append((fd, name))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        while self._made:
            fd, name = self._made.pop()
            try:
                if kind is not None:
                    os.rmdir(name, dir_fd=fd)
            except OSError:
                pass  # It holds something, or somebody else took it away or closed what holds it.
            finally:
                os.close(fd)


def open_parent(root_fd, names, make=None, opened=open_directory):
    """A descriptor of the directory that holds names[-1]; the caller closes it. `make` makes those that are missing on the way.
    With `pass_through`, rights stay as they are."""
    fd = os.dup(root_fd)
    try:
        for name in names[:-1]:
            try:
                deeper = opened(name, fd)
            except FileNotFoundError:
                if make is None:
                    raise
                make(name, fd)
                deeper = opened(name, fd)
            os.close(fd)
            fd = deeper
        return fd
    except BaseException:
        os.close(fd)
        raise


def create_file(root_fd, names):
    """A new, empty file in place of whatever is not a directory there."""
    fd = open_parent(root_fd, names, make_directory) if len(names) > 1 else root_fd
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            return os.open(names[-1], flags, 0o644, dir_fd=fd)
        except FileExistsError:
            os.unlink(names[-1], dir_fd=fd)
            return os.open(names[-1], flags, 0o644, dir_fd=fd)
    finally:
        if fd != root_fd:
            os.close(fd)
