"""System V objects: they outlive every process, so a reset removes them."""

import ctypes
import os

_IPC_RMID = 0
_KINDS = (("shm", "shmctl"), ("sem", "semctl"), ("msg", "msgctl"))
_READ_BYTES = 65536


def remove_all(proc_root):
    """Removes what this UID may remove; returns the names of what is left."""
    found = _listed(proc_root)
    if not found:
        return []
    libc = ctypes.CDLL(None)
    for kind, call, number in found:
        if kind == "sem":
            getattr(libc, call)(number, 0, _IPC_RMID, 0)
        else:
            getattr(libc, call)(number, _IPC_RMID, None)
    return ["System V %s %d" % (kind, number) for kind, _, number in _listed(proc_root)]


def _listed(proc_root):
    """(kind, call, number) of every object there is."""
    return [
        (kind, call, int(line.split()[1]))
        for kind, call in _KINDS
        for line in _read("%s/sysvipc/%s" % (proc_root, kind)).split(b"\n")[1:]
        if line.strip()
    ]


def _read(path):
    """Empty where the kernel has no such objects. Every reset reads three: a file object costs four times this."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        pieces = []
        while piece := os.read(fd, _READ_BYTES):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)
