"""Landlock: writes only below the given paths, reads and execution everywhere, no TCP where there is no network.

A second lock behind mounts and seccomp, where the kernel has it. ABI 1 is left alone: it refuses every rename between
directories, which ordinary programs need.
"""

import ctypes
import os
import stat

from podgate_runner import syscalls

MIN_ABI = 2

_WRITE_FILE, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 1, 1 << 13, 1 << 14, 1 << 15
_OF_FILES = _WRITE_FILE | _TRUNCATE | _IOCTL_DEV
# Remove directory and file; make character device, directory, file, socket, FIFO, block device, symbolic link.
_CHANGE_DIRECTORY = sum(1 << bit for bit in range(4, 13))
_BIND_TCP, _CONNECT_TCP = 1, 2
# The signal scope stops at the domain's border: a process reaches its own children and threads as ever.
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1, 2
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

#: Devices that programs write to whatever their directories.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts")


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # what _pack_ means, which Python 3.14 wants said
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def abi():
    """The kernel's Landlock ABI, 0 where there is none (not built, not enabled, refused)."""
    try:
        return syscalls.call("landlock_create_ruleset", 0, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def file_accesses(version):
    """What `version` can hold back among writes."""
    accesses = _WRITE_FILE | _CHANGE_DIRECTORY | _REFER
    if version >= 3:
        accesses |= _TRUNCATE
    if version >= 5:
        accesses |= _IOCTL_DEV
    return accesses


_devices = None


def foresee(version):
    """Opens the devices for all rulesets that this process and its forks make from now on: mounts leave them as they are."""
    global _devices
    _devices = _rules(DEVICES, file_accesses(version))


def ruleset(version, writable, network):
    """Makes a ruleset for `version` >= MIN_ABI and returns its descriptor. Paths that do not exist are left out: then
    nobody can write there. The rules stick to what the paths are now, so mounts come first."""
    handled = file_accesses(version)
    attributes = (ctypes.c_uint64 * 3)(
        handled,
        _BIND_TCP | _CONNECT_TCP if version >= 4 and not network else 0,
        _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if version >= 6 else 0,
    )
    size = 8 if version < 4 else 16 if version < 6 else 24
    fd = syscalls.call("landlock_create_ruleset", ctypes.addressof(attributes), size, 0)
    opened = []
    try:
        opened = _rules(writable if _devices is not None else (*writable, *DEVICES), handled)
        for rule in (*opened, *(_devices or ())):
            syscalls.call("landlock_add_rule", fd, _RULE_PATH_BENEATH, ctypes.addressof(rule), 0)
    except BaseException:
        os.close(fd)
        raise
    finally:
        for rule in opened:
            os.close(rule.parent_fd)
    return fd


def _rules(paths, handled):
    """A rule for each path that exists, with a descriptor of it."""
    rules = []
    for path in paths:
        try:
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        directory = stat.S_ISDIR(os.fstat(parent).st_mode)
        rules.append(_PathBeneath(handled if directory else handled & _OF_FILES, parent))
    return rules


def restrict(fd):
    """Binds this thread and all it starts to the ruleset. Needs no_new_privs."""
    syscalls.call("landlock_restrict_self", fd, 0)
