"""System V objects: they outlive every process, so a reset removes them."""

import ctypes

_IPC_RMID = 0
_KINDS = (("shm", "shmctl"), ("sem", "semctl"), ("msg", "msgctl"))


def remove_all(proc_root):
    """Removes what this UID may remove; returns the names of what is left."""
    libc = None
    for kind, call in _KINDS:
        for number in _listed(proc_root, kind):
            libc = libc or ctypes.CDLL(None)
            if kind == "sem":
                getattr(libc, call)(number, 0, _IPC_RMID, 0)
            else:
                getattr(libc, call)(number, _IPC_RMID, None)
    return ["System V %s %d" % (kind, number) for kind, _ in _KINDS for number in _listed(proc_root, kind)]


def _listed(proc_root, kind):
    try:
        with open("%s/sysvipc/%s" % (proc_root, kind), "rb") as file:
            return [int(line.split()[1]) for line in file.read().split(b"\n")[1:] if line.strip()]
    except OSError:
        return []
