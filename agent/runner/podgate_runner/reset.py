"""Brings a sandbox back to where it was before anything ran, and looks whether that is so."""

import array
import fcntl
import os
import stat
import time

from podgate_runner import socket_cycles, sysvipc, wipe
from podgate_runner.limits import FREE_PAUSE_SECONDS, FREE_SECONDS, MAX_LEFTOVERS
from podgate_runner.mounts import inodes
from podgate_runner.place import attributes

# A pod's, out of reach of user code unless the image's /root is open to all: backends/kubernetes/pod-spec.ts names it.
_TERMINATION_LOG = "/root/.podgate-termination"
# Engines mount it writable for all. A queue is a file there, whoever made it and how.
_QUEUES = "/dev/mqueue"
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS, _F_SET_RW_HINT = 0x80086601, 0x40086602, 1036
# What an owner may set of a directory, and what is made in it inherits: no dump, no access times.
_OWNERS_FLAGS = 0x40 | 0x80


def reset(place, config):
    """Returns what could not be removed, in words; empty when the sandbox is as new."""
    leftovers = ["process %d" % process.pid for process in place.kill()]
    if os.getpid() == 1:
        place.sockets = socket_cycles.collect(config["proc_root"], place.sockets)
    for path in [config["workspace"]] + config["scratch"]:
        try:
            clean = not _is_shared(path) and _restore(path, place) and wipe.wipe(path)
        except (OSError, RecursionError):
            clean = False
        if not clean:
            leftovers.append("files in " + path)
        elif path in place.inodes and not _is_freed(path, place.inodes[path]):
            leftovers.append("removed files in " + path)
    if os.getpid() == 1:
        leftovers.extend(sysvipc.remove_all(config["proc_root"]))
        leftovers.extend("queue %r" % name for name in _remove_queues(_QUEUES))
        if not _truncate(_TERMINATION_LOG):
            leftovers.append("text in " + _TERMINATION_LOG)
    leftovers.extend("process %d" % process.pid for process in place.processes())
    return leftovers[:MAX_LEFTOVERS]


def _is_shared(path):
    """A runner that is no sandbox's PID 1 may be looking at the /tmp of a whole machine."""
    return os.getpid() != 1 and os.stat(path).st_mode & stat.S_ISVTX != 0


def _is_freed(path, most):
    """Files without a name keep their room while sockets hold them that were sent over each other."""
    deadline = time.monotonic() + FREE_SECONDS
    while inodes(path) > most:
        if time.monotonic() > deadline:
            return False
        socket_cycles.look()
        time.sleep(FREE_PAUSE_SECONDS)
    return True


def _restore(path, place):
    """The directory itself may be the user's: its rights and attributes are state like the files in it."""
    mode, before = place.modes.get(path), place.attributes.get(path) or {}
    if mode is not None and stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)
    now = attributes(path)
    for name in now.keys() - before.keys():
        os.removexattr(path, name)
    for name, value in before.items():
        if now.get(name) != value:
            os.setxattr(path, name, value)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _renew(fd)
    finally:
        os.close(fd)
    return True


def _renew(fd):
    flags = array.array("l", [0])
    _try(os.utime, fd)
    _try(fcntl.fcntl, fd, _F_SET_RW_HINT, bytes(8))
    _try(fcntl.ioctl, fd, _FS_IOC_GETFLAGS, flags)
    if flags[0] & _OWNERS_FLAGS:
        flags[0] &= ~_OWNERS_FLAGS
        _try(fcntl.ioctl, fd, _FS_IOC_SETFLAGS, flags)


def _try(call, *args):
    """What is refused here, or is not known, no program could do either."""
    try:
        call(*args)
    except OSError:
        pass


def _remove_queues(path):
    """POSIX queues outlive their processes. Returns the names of those that cannot be removed."""
    for name in _names(path):
        try:
            os.unlink(os.path.join(path, name))
        except OSError:
            pass
    return _names(path)


def _names(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def _truncate(path):
    """The kubelet mounts it writable for all: text there would outlive the reset."""
    try:
        size = os.stat(path).st_size
    except OSError:
        return True
    if not size:
        return True
    try:
        os.truncate(path, 0)
        return os.stat(path).st_size == 0
    except OSError:
        return False
