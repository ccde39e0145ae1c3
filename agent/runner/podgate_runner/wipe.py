"""Empties a directory whatever user code built in it: any depth, any name, any mode, two descriptors at a time."""

import errno
import os

from podgate_runner import tree

_PREFIX = b".podgate-wipe-"


def wipe(path):
    """Returns True when the directory is empty afterwards."""
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        number = 0
        while True:
            names = _names(root)
            if not names:
                return True
            removed = 0
            for name, is_directory in names:
                try:
                    if is_directory:
                        number = _flatten(root, name, number)
                        os.rmdir(name, dir_fd=root)
                    else:
                        os.unlink(name, dir_fd=root)
                    removed += 1
                except OSError:
                    continue
            if not removed:
                return False
    finally:
        os.close(root)


def _flatten(root, name, number):
    """Empties one directory: its directories move up to the root, where the next round finds them."""
    fd = tree.open_directory(name, root)
    try:
        os.fchmod(fd, 0o700)
        for child, is_directory in _names(fd):
            if not is_directory:
                os.unlink(child, dir_fd=fd)
                continue
            try:
                os.rmdir(child, dir_fd=fd)
            except OSError:
                # A directory can change its parent only while its owner may write to it.
                os.chmod(child, 0o700, dir_fd=fd)
                number = _move_up(root, fd, child, number)
    finally:
        os.close(fd)
    return number


def _move_up(root, fd, child, number):
    while True:
        number += 1
        try:
            os.rename(child, _PREFIX + b"%d" % number, src_dir_fd=fd, dst_dir_fd=root)
            return number
        except (FileExistsError, NotADirectoryError):
            continue
        except OSError as error:
            # The name is taken.
            if error.errno != errno.ENOTEMPTY:
                raise


def _names(fd):
    with os.scandir(fd) as found:
        return [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in found]
