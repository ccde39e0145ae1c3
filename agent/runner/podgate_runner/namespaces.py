"""New namespaces without privilege: a user namespace that owns the others, and words for why a machine refuses."""

import errno
import os

from podgate_runner import syscalls

#: What an execution or a local sandbox does not share with anybody. A cgroup namespace hides nothing here: neither
#: /sys nor a cgroup file system is mounted inside.
ISOLATED = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWNET
)

_KINDS = ("user", "pid", "mnt", "ipc", "net", "uts")


class NamespaceError(Exception):
    """The machine refuses. The text is a sentence that names the setting."""


def unshare(flags, inside_uid, inside_gid):
    """Moves this process into new namespaces (its next child, for PIDs) with one user and one group mapped."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(flags)
    except OSError as error:
        raise NamespaceError(explain(error)) from error
    map_ids(inside_uid, inside_gid, uid, gid)


def fork(flags):
    """As os.fork, the child in new namespaces that have no maps yet. See syscalls.fork_into for what it may do."""
    try:
        return syscalls.fork_into(flags)
    except OSError as error:
        raise NamespaceError(explain(error)) from error


def map_ids(inside_uid, inside_gid, uid, gid):
    """One user and one group; the last two are what they are outside. The process must be dumpable."""
    try:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", "%d %d 1" % (inside_uid, uid))
        _write("/proc/self/gid_map", "%d %d 1" % (inside_gid, gid))
    except OSError as error:
        raise NamespaceError("the user namespace takes no map (%s)%s" % (error, _restrictions())) from error


def mount(source, target, fstype, flags, data=None):
    """mount(2) whose failure says what usually stands behind it."""
    try:
        syscalls.mount(source, target, fstype, flags, data)
    except OSError as error:
        hint = _restrictions()
        if fstype == "proc" and not hint:
            hint = (
                "; a container that masks parts of /proc does not allow a new one"
                " (Docker: --security-opt systempaths=unconfined; Kubernetes: procMount: Unmasked)"
            )
        raise NamespaceError("mounting %s on %s is refused (%s)%s" % (fstype or source, target, error.strerror, hint))


def forbid_more():
    """No user namespace below this one, should the filter be absent. Needs a capability in it; fine without /proc."""
    try:
        _write("/proc/sys/user/max_user_namespaces", "0")
    except OSError:
        pass


def explain(error):
    """Why unshare failed, naming the setting to change."""
    if error.errno in (errno.ENOSPC, errno.EUSERS):
        zeros = [name for name in map(_limit_name, _KINDS) if _read("/proc/sys/user/" + name) == "0"]
        if zeros:
            return "namespaces are refused: user.%s is 0; set it with sysctl" % zeros[0]
        return "namespaces are refused: the limit of sysctl user.max_*_namespaces is reached (%s)" % error.strerror
    if error.errno in (errno.EINVAL, errno.ENOSYS) or not os.path.exists("/proc/self/ns/user"):
        return "namespaces are refused: this kernel is built without user namespaces (%s)" % error.strerror
    return "namespaces are refused (%s)%s" % (error.strerror, _restrictions() or _confinement())


def _restrictions():
    """Settings that Debian and Ubuntu add; the second lets unshare pass and takes the capabilities away."""
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "; set sysctl kernel.unprivileged_userns_clone=1"
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "; set sysctl kernel.apparmor_restrict_unprivileged_userns=0 or give the interpreter an AppArmor profile"
    return ""


def _confinement():
    try:
        with open("/proc/self/status", encoding="latin-1") as status:
            filtered = any(line.split() == ["Seccomp:", "2"] for line in status)
    except OSError:
        filtered = False
    if filtered:
        return "; a seccomp filter of the container forbids them (Docker: --security-opt seccomp=unconfined)"
    return "; a chroot or a security module forbids them"


def _limit_name(kind):
    return "max_%s_namespaces" % kind


def _read(path):
    try:
        with open(path, encoding="latin-1") as file:
            return file.read().strip()
    except OSError:
        return None


def _write(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
