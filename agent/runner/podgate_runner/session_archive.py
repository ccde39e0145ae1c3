"""Whole trees of a session as tar, as session_files.py reaches them."""

import contextlib
import os
import stat

from podgate_runner.session_paths import ok, open_directory, write
from podgate_runner.session_walk import gone, walk

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RIGHTS = stat.S_IRUSR | stat.S_IXUSR


class Out:
    """What tarfile writes to."""

    def write(self, data):
        write(data)
        return len(data)


def pack(root, asked):
    tarfile = __import__("tarfile")
    fd = open_directory(root, asked["path"])
    yield ok({})
    # However it ends, what was closed is closed again.
    with contextlib.closing(walk(fd, _RIGHTS)) as entries:
        archive = tarfile.open(fileobj=Out(), mode="w|", format=tarfile.PAX_FORMAT)
        for dir_fd, names, name, found in entries:
            if found is not None:
                info = tarfile.TarInfo("/".join(names + [name]))
                info.mode, info.mtime = stat.S_IMODE(found.st_mode), found.st_mtime
                add(tarfile, archive, info, name, found, dir_fd)
        archive.close()


def add(tarfile, archive, info, name, found, dir_fd):
    """Pipes, sockets and devices are left out."""
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    elif stat.S_ISLNK(found.st_mode):
        try:
            info.linkname = os.readlink(name, dir_fd=dir_fd)
        except OSError as error:
            if gone(error):
                return
            raise
        info.type = tarfile.SYMTYPE
        archive.addfile(info)
    elif stat.S_ISREG(found.st_mode):
        try:
            opened = open_file(name, found, dir_fd)
        except OSError as error:
            if gone(error):
                return
            raise
        with os.fdopen(opened, "rb") as file:
            now = os.fstat(opened)
            if stat.S_ISREG(now.st_mode):
                info.size = now.st_size
                archive.addfile(info, file)


def open_file(name, found, dir_fd):
    """Also where its owner took the right to read it away: that is the user of this process."""
    try:
        return os.open(name, _FILE, dir_fd=dir_fd)
    except PermissionError:
        mode = stat.S_IMODE(found.st_mode)
        # chmod follows a link that was put there just now: to a file of whoever put it there.
        os.chmod(name, mode | stat.S_IRUSR, dir_fd=dir_fd)
        try:
            return os.open(name, _FILE, dir_fd=dir_fd)
        finally:
            os.chmod(name, mode, dir_fd=dir_fd)
