"""Whole trees of a session as tar, as session_files.py reaches them."""

import os
import stat

from podgate_runner import tree
from podgate_runner.session_paths import ok, open_directory, write

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
