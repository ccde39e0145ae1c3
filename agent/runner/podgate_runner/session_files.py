"""Files of a session for their owner: one request a process, which has the rights of user code and no more.

Every step is taken through a descriptor and no link is followed, so that nothing outside the workspace is reached whatever
links the user made, also while they are being made. stdout is one line of JSON, `{"ok": …}` or `{"error": …}`, then bytes.
"""

import errno
import json
import os
import stat

from podgate_runner import session_archive, session_unpack, tree
from podgate_runner.session_paths import (
    Refusal,
    blaming,
    described,
    make_directory,
    ok,
    open_directory,
    parent_of,
    refusal_of,
    write,
)
from podgate_runner.session_walk import walk

_PIECE_BYTES = 1 << 16
# What a target does to a move: it is a file for a directory, a directory for a file, or not empty.
_IN_THE_WAY = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def serve(asked):
    """Never returns. Once the facts are out, no words can be put into what follows: a process that then fails says so by its
    exit status, and nobody takes a part for the whole."""
    answered = False
    try:
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for piece in _OPERATIONS[asked["op"]](root, asked):
            write(piece)
            answered = True
    except Exception as error:
        if answered:
            os._exit(1)
        answer_error(*refusal_of(error).args)
    os._exit(0)


def answer_error(code, detail, path=None):
    error = {"code": code, "detail": detail}
    if path is not None:
        error["path"] = path
    write(json.dumps({"error": error}).encode("ascii") + b"\n")


def stat_of(root, asked):
    fd, name = parent_of(root, asked["path"])
    yield ok(described(name, os.stat(name, dir_fd=fd, follow_symlinks=False), fd))


def listed(root, asked):
    fd = open_directory(root, asked["path"])
    after = os.fsencode(asked["after"])
    names = sorted(name for name in map(os.fsencode, os.listdir(fd)) if name > after)
    entries, page = [], names[: asked["limit"]]
    for name in page:
        try:
            entries.append(described(name, os.stat(name, dir_fd=fd, follow_symlinks=False), fd))
        except FileNotFoundError:
            pass
    answer = {"entries": entries, "more": len(names) > len(page)}
    if answer["more"] and page:
        # As it is: an entry has its name readable, and may be gone by now.
        answer["next"] = os.fsdecode(page[-1])
    yield ok(answer)


def read(root, asked):
    fd, name = parent_of(root, asked["path"])
    opened = os.open(name, _FILE, dir_fd=fd)
    found = os.fstat(opened)
    if stat.S_ISDIR(found.st_mode):
        raise Refusal("is_a_directory", "It is a directory: take it as a tree.")
    if not stat.S_ISREG(found.st_mode):
        raise Refusal("not_a_file", "It is no regular file.")
    size = found.st_size
    first, last = asked["first"], asked["last"]
    if first is None:
        # The end of it.
        start, end = (0, size) if last is None else (max(0, size - last), size)
    else:
        start, end = first, size if last is None else min(last + 1, size)
    if start > size or (start == size and size):
        raise Refusal("no_range", str(size))
    yield ok({"size": size, "start": start, "end": max(start, end), "modified_at": found.st_mtime})
    at = start
    while at < end:
        piece = os.pread(opened, min(_PIECE_BYTES, end - at), at)
        if not piece:
            raise Refusal("failed", "The file was cut meanwhile.")
        at += len(piece)
        yield piece


def move(root, asked):
    source_fd, source = parent_of(root, asked["path"])
    found = os.stat(source, dir_fd=source_fd, follow_symlinks=False)
    # Before directories are made that lead there. No link is followed: names say it all.
    names, to = tree.split(asked["path"]), tree.split(asked["to"])
    if stat.S_ISDIR(found.st_mode) and len(to) > len(names) and to[: len(names)] == names:
        raise Refusal("into_itself", "A directory cannot be moved into itself.")
    with tree.Made() as made:
        with blaming(asked["to"]):
            target_fd, target = parent_of(root, asked["to"], made.make)
        try:
            os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
        except OSError as error:
            if error.errno in _IN_THE_WAY:
                raise Refusal("exists", error.strerror, asked["to"]) from None
            raise
    yield ok(described(target, os.stat(target, dir_fd=target_fd, follow_symlinks=False), target_fd))


def mkdir(root, asked):
    with tree.Made() as made:
        found = make_directory(root, asked["path"], made.make)
    yield ok(found)


def delete(root, asked):
    fd, name = parent_of(root, asked["path"])
    if name == b".":
        raise Refusal("bad_path", "The workspace itself stays.")
    if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=fd)
    else:
        if asked["recursive"]:
            empty(name, fd)
        os.rmdir(name, dir_fd=fd)
    yield ok({})


def empty(name, fd):
    """Of a directory, what it holds goes, however deep it is."""
    for dir_fd, _, name, found in walk(tree.open_directory(name, fd), stat.S_IRWXU):
        try:
            if found is None:
                os.rmdir(name, dir_fd=dir_fd)
            elif not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=dir_fd)
        except FileNotFoundError:
            pass


_OPERATIONS = {
    "stat": stat_of,
    "list": listed,
    "read": read,
    "mkdir": mkdir,
    "move": move,
    "delete": delete,
    "pack": session_archive.pack,
    "unpack": session_unpack.unpack,
}
