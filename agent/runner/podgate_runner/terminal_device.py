"""The pseudo-terminal devices of a sandbox."""

import array
import fcntl
import os
import struct

_TIOCSWINSZ, _TIOCSCTTY, _TIOCGPTN, _TIOCSPTLCK, _TIOCGPTPEER = 0x5414, 0x540E, 0x80045430, 0x40045431, 0x5441


def open_pair(rows, columns):
    """(master, slave). By hand: what C libraries have for it asks for groups and helpers that sandboxes lack."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        set_size(master, rows, columns)
        flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
        try:
            slave = fcntl.ioctl(master, _TIOCGPTPEER, flags)
        except OSError:
            number = array.array("i", [0])
            fcntl.ioctl(master, _TIOCGPTN, number)
            slave = os.open("/dev/pts/%d" % number[0], flags)
    except BaseException:
        os.close(master)
        raise
    return master, slave


def missing(error):
    """What a sandbox lacks in which no terminal can be opened."""
    for path in ("/dev/ptmx", "/dev/pts"):
        if not os.path.exists(path):
            return "The sandbox has no %s: mount a devpts on /dev/pts, with /dev/ptmx leading to it." % path
    return "The sandbox gives no terminal: /dev/ptmx says %s." % error.strerror


def set_size(fd, rows, columns):
    fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def take_control():
    """Makes standard input the terminal of this process, the first of its session."""
    fcntl.ioctl(0, _TIOCSCTTY, 0)
