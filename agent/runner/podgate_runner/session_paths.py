"""Paths of a session's files: every step through a descriptor, no link followed."""

import json
import os
import stat

from podgate_runner import tree

_TYPES = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"))


class Refusal(Exception):
    pass


def ok(value):
    return json.dumps({"ok": value}).encode("ascii") + b"\n"


def write(data):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def parent_of(root, path, make=False):
    """(descriptor of the directory that holds it, name); the root itself is (root, ".")."""
    if path in ("", "."):
        return os.dup(root), b"."
    names = tree.split(path)
    return tree.open_parent(root, names, make), names[-1]


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
    return tree.open_directory(name, fd)


def make_directory(root, asked):
    fd, name = parent_of(root, asked["path"], True)
    try:
        os.mkdir(name, 0o755, dir_fd=fd)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            raise
    yield ok(described(name, os.stat(name, dir_fd=fd, follow_symlinks=False), fd))
