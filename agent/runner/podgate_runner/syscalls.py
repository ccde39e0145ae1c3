"""Thin bindings to the system calls that Python's standard library lacks on 3.9. Each raises OSError with its errno."""

import ctypes
import errno
import os
import signal
import sys

from podgate_runner import syscall_table

MACHINE = os.uname().machine
#: Whether this interpreter can make raw calls: a machine with a table, and not a 32-bit process on it.
SUPPORTED = sys.platform == "linux" and MACHINE in syscall_table.MACHINES and sys.maxsize > 2**32

CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
AT_RECURSIVE = 0x8000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
CAP_SETPCAP = 8
# NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off, each with its lock: UID 0 gives no capability, now or later.
SECUREBITS_LOCKED = 0b00101111

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
# Fixed types for a variadic function: right on both machines, and without them ctypes would pass 32-bit ints.
_syscall.argtypes = [ctypes.c_long] * 7
_mount = _libc.mount
_mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_umount2 = _libc.umount2
_umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]

if SUPPORTED:
    _INDEX = syscall_table.MACHINES.index(MACHINE)
    _NUMBERS = {name: numbers[_INDEX] for name, numbers in syscall_table.CALLS.items()}
else:
    _NUMBERS = {}


def _fail(what):
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), what)


def call(name, *args):
    """Makes a system call by name with up to six integers (addresses included) and returns its result."""
    number = _NUMBERS.get(name)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    result = _syscall(number, *(args + (0,) * (6 - len(args))))
    if result < 0:
        _fail(name)
    return result


def prctl(option, arg2=0, arg3=0, arg4=0, arg5=0):
    return call("prctl", option, arg2, arg3, arg4, arg5)


def set_dumpable(dumpable):
    """False closes /proc/<pid>/{mem,environ,fd,maps} and ptrace to other processes of the same UID."""
    prctl(PR_SET_DUMPABLE, 1 if dumpable else 0)


def set_no_new_privs():
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def set_parent_death_signal(signal_number):
    """Cleared by the kernel at execve of a set-ID program and at every change of UID: set it last. It follows the
    parent *thread*: a parent that spawns from a thread takes its children along when that thread ends."""
    prctl(PR_SET_PDEATHSIG, signal_number)


def set_child_subreaper(on):
    prctl(PR_SET_CHILD_SUBREAPER, 1 if on else 0)


def set_securebits(bits):
    prctl(PR_SET_SECUREBITS, bits)


def set_seccomp(program_address):
    """Installs a filter for this thread and all it starts; `program_address` is that of a sock_fprog."""
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program_address)


def drop_bounding_set():
    """Empties the capability bounding set. Needs CAP_SETPCAP: EPERM where it is not held."""
    capability = 0
    while _syscall(_NUMBERS["prctl"], PR_CAPBSET_DROP, capability, 0, 0, 0, 0) >= 0:
        capability += 1
    if ctypes.get_errno() != errno.EINVAL:  # past the last capability that this kernel knows
        _fail("prctl")


# struct __user_cap_header_struct (version 3, this thread) and two struct __user_cap_data_struct of zeros.
_CAP_HEADER = (ctypes.c_uint32 * 2)(0x20080522, 0)
_CAP_NONE = (ctypes.c_uint32 * 6)()


def clear_capabilities():
    """Gives up every permitted, effective and inheritable capability. Needs none."""
    call("capset", ctypes.addressof(_CAP_HEADER), ctypes.addressof(_CAP_NONE))


def permitted_capabilities():
    """The low 32 capabilities of the permitted set, as a mask: CAP_SETPCAP and CAP_SYS_ADMIN are among them."""
    data = (ctypes.c_uint32 * 6)()
    call("capget", ctypes.addressof(_CAP_HEADER), ctypes.addressof(data))
    return data[1]


_fork = ctypes.PyDLL(None, use_errno=True).syscall
_fork.restype = ctypes.c_long
_fork.argtypes = [ctypes.c_long] * 6


def fork_into(flags):
    """As os.fork, with CLONE_* flags, and without telling libc or Python: they still have the parent's thread id. So
    the child may make system calls, and os.fork, which puts that right for its own child, but start no thread."""
    pid = _fork(_NUMBERS["clone"], flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid < 0:
        _fail("clone")
    return pid


def unshare(flags):
    call("unshare", flags)


def mount(source, target, fstype=None, flags=0, data=None):
    """mount(2). Strings or bytes; None where the call takes NULL."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, fstype, data)]
    if _mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]) != 0:
        _fail("mount " + os.fsdecode(target))


def umount2(target, flags=0):
    if _umount2(os.fsencode(target), flags) != 0:
        _fail("umount " + os.fsdecode(target))


def set_mount_attributes(path, attributes, recursive):
    """Adds MOUNT_ATTR_* to a mount, with `recursive` to all below it too (Linux 5.12)."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    attr = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    at_fdcwd = -100
    flags = AT_RECURSIVE if recursive else 0
    call("mount_setattr", at_fdcwd, ctypes.addressof(name), flags, ctypes.addressof(attr), ctypes.sizeof(attr))


def pivot_root(new_root, put_old):
    new = ctypes.create_string_buffer(os.fsencode(new_root))
    old = ctypes.create_string_buffer(os.fsencode(put_old))
    call("pivot_root", ctypes.addressof(new), ctypes.addressof(old))


def close_range(first, last=0xFFFFFFFF):
    """Closes the descriptors first..last; before Linux 5.9 and in gVisor one by one as /proc/self/fd names them."""
    if first > last:
        return
    try:
        call("close_range", first, last, 0)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            raise
        _close_listed(first, last)


def _close_listed(first, last):
    try:
        listed = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        listed = range(first, min(last + 1, os.sysconf("SC_OPEN_MAX")))
    for fd in listed:
        if first <= fd <= last:
            try:
                os.close(fd)
            except OSError:  # the listing's own descriptor
                pass


def close_all_but(keep):
    """Closes every descriptor that is not in `keep`."""
    first = 0
    for fd in sorted(set(keep)):
        close_range(first, fd - 1)
        first = fd + 1
    close_range(first)
