"""Whole trees of a session as tar, out and in, as session_files.py reaches them."""

import os
import shutil
import stat
import sys

from podgate_runner import tree
from podgate_runner.session_paths import Refusal, make_directory, ok, open_directory, write

_PIECE_BYTES = 1 << 16
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Out:
    """What tarfile writes to."""

    def write(self, data):
        write(data)
        return len(data)


def pack(root, asked):
    tarfile = __import__("tarfile")
    fd = open_directory(root, asked["path"])
    yield ok({})
    with tarfile.open(fileobj=Out(), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        add_all(tarfile, archive, fd, "")


def add_all(tarfile, archive, fd, prefix):
    for name in sorted(os.listdir(fd)):
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            info = tarfile.TarInfo(prefix + name)
            info.mode, info.mtime = stat.S_IMODE(found.st_mode), found.st_mtime
            if stat.S_ISDIR(found.st_mode):
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
                deeper = tree.open_directory(name, fd)
                try:
                    add_all(tarfile, archive, deeper, prefix + name + "/")
                finally:
                    os.close(deeper)
            elif stat.S_ISLNK(found.st_mode):
                info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=fd)
                archive.addfile(info)
            elif stat.S_ISREG(found.st_mode):
                with os.fdopen(os.open(name, _FILE, dir_fd=fd), "rb") as file:
                    info.size = os.fstat(file.fileno()).st_size
                    archive.addfile(info, file)
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            pass  # It went meanwhile, or its owner closed it.


def unpack(root, asked):
    tarfile = __import__("tarfile")
    base = open_or_make(root, asked["path"])
    count = 0
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|*") as archive:
            for info in archive:
                take(tarfile, archive, info, base)
                count += 1
    except (tarfile.TarError, EOFError) as error:
        raise Refusal("bad_archive", "After %d entries: %s" % (count, error)) from None
    yield ok({"entries": count})


def open_or_make(root, path):
    if path not in ("", "."):
        for _ in make_directory(root, {"path": path}):
            pass
    return open_directory(root, path)


def take(tarfile, archive, info, base):
    name = info.name.rstrip("/")
    while name.startswith("./"):
        name = name[2:]
    if name in ("", "."):
        return
    names = tree.split(name)
    if info.isdir():
        for _ in make_directory(base, {"path": name}):
            pass
        return
    fd = tree.open_parent(base, names, True)
    try:
        if info.isreg():
            out = tree.create_file(base, names)
            with os.fdopen(out, "wb") as file:
                shutil.copyfileobj(archive.extractfile(info), file, _PIECE_BYTES)
                os.fchmod(file.fileno(), info.mode & 0o777)
                file.flush()
                os.utime(file.fileno(), (info.mtime, info.mtime))
        elif info.issym():
            unlink_file(names[-1], fd)
            os.symlink(os.fsencode(info.linkname), names[-1], dir_fd=fd)
        elif info.islnk():
            source = tree.split(info.linkname)
            source_fd = tree.open_parent(base, source, False)
            unlink_file(names[-1], fd)
            os.link(source[-1], names[-1], src_dir_fd=source_fd, dst_dir_fd=fd, follow_symlinks=False)
            os.close(source_fd)
        else:
            raise Refusal("bad_archive", "An entry is neither file nor directory nor link.")
    finally:
        os.close(fd)


def unlink_file(name, fd):
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
