"""Brings a sandbox back to where it was before anything ran, and looks whether that is so."""

import os
import stat
import time
import _socket

from podgate_runner import sysvipc, wipe
from podgate_runner.limits import FREE_PAUSE_SECONDS, FREE_SECONDS, MAX_LEFTOVERS
from podgate_runner.mounts import inodes

# A pod's, out of reach of user code unless the image's /root is open to all: backends/kubernetes/pod-spec.ts names it.
_TERMINATION_LOG = "/root/.podgate-termination"
# Engines mount it writable for all. A queue is a file there, whoever made it and how.
_QUEUES = "/dev/mqueue"


def reset(place, config):
    """Returns what could not be removed, in words; empty when the sandbox is as new."""
    leftovers = ["process %d" % process.pid for process in place.kill()]
    for path in [config["workspace"]] + config["scratch"]:
        try:
            clean = not _is_shared(path) and _restore(path, place.modes.get(path)) and wipe.wipe(path)
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
    """Sockets that were sent over each other outlive their processes with every descriptor sent beside them, so that a file
    without a name keeps its room. The kernel looks for such sockets when any other is closed, and a moment later."""
    deadline = time.monotonic() + FREE_SECONDS
    while inodes(path) > most:
        if time.monotonic() > deadline:
            return False
        for end in _socket.socketpair():
            end.close()
        time.sleep(FREE_PAUSE_SECONDS)
    return True


def _restore(path, mode):
    """The directory itself may be the user's: its rights and attributes are state like the files in it."""
    if mode is not None and stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)
    for name in os.listxattr(path):
        if name.startswith(("user.", "system.posix_acl_")):
            os.removexattr(path, name)
    return True


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
