"""Paths of a session's files: every step through a descriptor, no link followed, and what is closed to its user stays so."""

import contextlib
import errno
import json
import os
import stat

from podgate_runner import tree

_TYPES = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"))
# Of a name that a refusal quotes.
_QUOTED_CHARS = 200
_CODES = {
    errno.ENOENT: "not_found",
    errno.EEXIST: "exists",
    errno.ENOTEMPTY: "not_empty",
    errno.ENOTDIR: "not_a_directory",
    errno.EISDIR: "is_a_directory",
    errno.ELOOP: "is_a_link",
    errno.ENOSPC: "no_room",
    errno.EDQUOT: "no_room",
    errno.EFBIG: "no_room",
    errno.EACCES: "no_access",
    errno.EPERM: "no_access",
}


class Refusal(Exception):
    """Its arguments: code, detail, and the path at fault where that is not the one that the request is about."""


def refusal_of(error, path=None):
    """Raises what is no refusal."""
    if isinstance(error, Refusal):
        return error
    named = None if path is None else path.encode("utf-8", "replace").decode("utf-8")[:_QUOTED_CHARS]
    if isinstance(error, OSError):
        return Refusal(_CODES.get(error.errno, "failed"), error.strerror or "failed", named)
    if isinstance(error, ValueError):
        return Refusal("bad_path", "The path %s%s." % ("" if named is None else "'%s' " % named, error))
    raise error


@contextlib.contextmanager
def blaming(path):
    """What is refused within is refused for this path."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise refusal_of(error, path) from None


def ok(value):
    return json.dumps({"ok": value}).encode("ascii") + b"\n"


def write(data):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def parent_of(root, path, make=None):
    """(descriptor of the directory that holds it, name); the root itself is (root, ".")."""
    if path in ("", "."):
        return os.dup(root), b"."
    names = tree.split(path)
    return tree.open_parent(root, names, make, tree.pass_through), names[-1]


def described(name, found, dir_fd):
    kind = next((word for check, word in _TYPES if check(found.st_mode)), "other")
    body = {"name": os.fsencode(name).decode("utf-8", "replace"), "type": kind, "size": found.st_size}
    body["mode"], body["modified_at"] = stat.S_IMODE(found.st_mode), found.st_mtime
    if kind == "link":
        body["target"] = os.readlink(os.fsencode(name), dir_fd=dir_fd).decode("utf-8", "replace")
    return body


def open_directory(root, path):
    if path in ("", "."):
        return os.dup(root)
    fd, name = parent_of(root, path)
    return tree.enter(name, fd)


def make_directory(root, path, make):
    """What it is then, made or there before."""
    fd, name = parent_of(root, path, make)
    try:
        try:
            make(name, fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                raise
        return described(name, os.stat(name, dir_fd=fd, follow_symlinks=False), fd)
    finally:
        os.close(fd)
