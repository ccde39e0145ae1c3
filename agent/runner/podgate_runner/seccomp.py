"""The system call filter that user code runs under: classic BPF, built for x86_64 and aarch64 on any machine.

The rules take away what reaches past the sandbox (sockets, namespaces, mounts, kernel surfaces that need no business
here), what outlives an execution (SysV and POSIX queues, keys) and what aims at Podgate's own processes, which share
the UID and in place `shared` the PID namespace. Everything else passes.

Arguments are compared by their low 32 bits only: the kernel truncates ints, so (1 << 32) | AF_INET opens AF_INET.
Pointers cannot be looked at, which is why whole operations go where a structure could name a process.
"""

import struct

from podgate_runner import syscall_table

EPERM, EACCES, ENOSYS, EAFNOSUPPORT = 1, 13, 38, 97

RET_KILL_PROCESS = 0x80000000
RET_ERRNO = 0x00050000
RET_ALLOW = 0x7FFF0000

LOAD, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_SET, AND, RETURN = 0x20, 0x05, 0x15, 0x25, 0x45, 0x54, 0x06
NUMBER_OFFSET, ARCH_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16

#: Processes and threads that one program can shield; beyond it a block would outgrow BPF's 8-bit jumps.
MAX_PROTECTED = 62
_FARTHEST_JUMP = 255
_CALLS_OF_A_LEAF = 8

REFUSED = (
    (EPERM, (
        # Mounts and namespaces; CLONE_NEW* is refused below.
        "mount", "umount2", "pivot_root", "setns", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig",
        "fsmount", "fspick", "mount_setattr", "open_by_handle_at", "quotactl", "quotactl_fd",
        # Kernel surfaces.
        "bpf", "perf_event_open", "userfaultfd", "fanotify_init", "kexec_load", "kexec_file_load", "init_module",
        "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms", "lookup_dcookie",
        "syslog", "acct", "swapon", "swapoff", "reboot", "vhangup", "iopl", "ioperm", "modify_ldt", "uselib", "ustat",
        "sysfs", "_sysctl", "nfsservctl", "settimeofday", "clock_settime", "sethostname", "setdomainname",
        "afs_syscall", "getpmsg", "putpmsg", "security", "tuxcall", "vserver",
        # Keys outlive the process and are shared by the UID.
        "add_key", "request_key", "keyctl",
        # Other processes by way of a descriptor or a pair of ids.
        "pidfd_getfd", "process_madvise", "process_mrelease", "kcmp",
    )),
    (ENOSYS, (
        # clone3 hides its flags behind a pointer; libcs fall back to clone.
        "clone3",
        # io_uring opens sockets past this filter.
        "io_uring_setup", "io_uring_enter", "io_uring_register",
        # They outlive their processes, and SysV memory escapes RLIMIT_DATA and the watch on the tree.
        "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr",
        "shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semctl", "semtimedop",
        "memfd_secret",
    )),
)  # fmt: skip

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16

# NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. In clone NEWTIME's bit is part of the exit signal.
UNSHARE_NEW = 0x7E020080
CLONE_NEW = UNSHARE_NEW & ~0x80
# A sibling instead of a child: a process that user code hands to the zygote.
CLONE_PARENT = 0x8000

PRIO_PROCESS, IOPRIO_WHO_PROCESS = 0, 1
PTRACE_TRACEME = 0
F_SETOWN, F_SETOWN_EX = 8, 15
FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX, TIOCSETD = 0x8901, 0x8902, 0x5412, 0x541C, 0x5423
PR_SCHED_CORE = 62
RLIMIT_CORE = 4
# PER_LINUX32, UNAME26 and ADDR_NO_RANDOMIZE (setarch -R); all ones only asks.
PERSONALITY_HARMLESS, PERSONALITY_QUERY = 0x0008 | 0x0020000 | 0x0040000, 0xFFFFFFFF
ALL_PROCESSES = 0xFFFFFFFF  # kill(-1)


def _load_argument(index):
    return [(LOAD, 0, 0, ARGUMENTS_OFFSET + 8 * index)]


def _refuse(code):
    return [(RETURN, 0, 0, RET_ERRNO | code)]


def _refuse_equal(index, values, code=EPERM):
    """Refuses if the argument is one of `values`."""
    body = _load_argument(index)
    for value in values:
        body += [(JUMP_EQUAL, 0, 1, value & 0xFFFFFFFF)] + _refuse(code)
    return body


def _refuse_unless(index, values, code):
    """Refuses if the argument is none of `values`."""
    tests = [(JUMP_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return _load_argument(index) + tests + _refuse(code)


def _pass_over(index, value, pointer=None):
    """Does nothing, and says that it did, if the argument is this value and the pointer, where there is one, is not null. What
    the call would write to its other pointers stays as it was."""
    is_null = [] if pointer is None else [
        (LOAD, 0, 0, ARGUMENTS_OFFSET + 8 * pointer), (JUMP_EQUAL, 0, 2, 0),
        (LOAD, 0, 0, ARGUMENTS_OFFSET + 8 * pointer + 4), (JUMP_EQUAL, 1, 0, 0),
    ]  # fmt: skip
    return _load_argument(index) + [(JUMP_EQUAL, 0, len(is_null) + 1, value)] + is_null + _refuse(0)


def _refuse_bits(index, mask):
    return _load_argument(index) + [(JUMP_SET, 0, 1, mask)] + _refuse(EPERM)


def _personality():
    return (
        _load_argument(0)
        + [(JUMP_EQUAL, 3, 0, PERSONALITY_QUERY), (AND, 0, 0, 0xFFFFFFFF ^ PERSONALITY_HARMLESS)]
        + [(JUMP_EQUAL, 1, 0, 0)]
        + _refuse(EPERM)
    )


def _conditions(network, protected, fresh):
    """(call, body) for the calls whose arguments decide. A body that falls through allows."""
    aimed = [(name, _refuse_equal(argument, protected)) for name, argument in (
        ("tkill", 0), ("rt_sigqueueinfo", 0), ("pidfd_open", 0), ("sched_setaffinity", 0),
        ("sched_setscheduler", 0), ("sched_setparam", 0), ("sched_setattr", 0), ("migrate_pages", 0),
        ("move_pages", 0), ("process_vm_readv", 0), ("process_vm_writev", 0),
    )]  # fmt: skip
    groups = [value for pid in protected for value in (pid, -pid)]
    killed = [value for value in groups if not (fresh and value == -1)]
    if not fresh:
        killed.append(ALL_PROCESSES)
        # It also takes a descriptor of /proc/<pid>, which any process of the UID may open.
        aimed.append(("pidfd_send_signal", _refuse(ENOSYS)))
    families = (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK) if network else (AF_UNIX,)
    family = _refuse_unless(0, families, EAFNOSUPPORT if network else EACCES)
    return aimed + [
        ("kill", _refuse_equal(0, sorted({value & 0xFFFFFFFF for value in killed}))),
        ("tgkill", _refuse_equal(0, protected) + _refuse_equal(1, protected)),
        ("rt_tgsigqueueinfo", _refuse_equal(0, protected) + _refuse_equal(1, protected)),
        # harden.py sets it. Programs that want no cores of their own have none.
        ("setrlimit", _pass_over(0, RLIMIT_CORE)),
        ("prlimit64", _refuse_equal(0, protected) + _pass_over(1, RLIMIT_CORE, 2)),
        ("setpriority", _refuse_unless(0, (PRIO_PROCESS,), EPERM) + _refuse_equal(1, protected)),
        ("ioprio_set", _refuse_unless(0, (IOPRIO_WHO_PROCESS,), EPERM) + _refuse_equal(1, protected)),
        # TRACEME would make the zygote, as parent, the tracer, and every stop of the child its business.
        ("ptrace", _refuse_equal(0, (PTRACE_TRACEME,)) + _refuse_equal(1, protected)),
        # The owner of a descriptor is sent any signal that F_SETSIG names.
        ("fcntl", _load_argument(1) + [(JUMP_EQUAL, 0, 1, F_SETOWN_EX)] + _refuse(EPERM) + _owner(groups)),
        # A line discipline is a module that the kernel loads for whoever names it.
        ("ioctl", _refuse_equal(1, (FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX, TIOCSETD))),
        ("prctl", _refuse_equal(0, (PR_SCHED_CORE,))),
        ("socket", family),
        ("socketpair", family),
        ("clone", _refuse_bits(0, CLONE_NEW | CLONE_PARENT)),
        ("unshare", _refuse_bits(0, UNSHARE_NEW)),
        ("personality", _personality()),
    ]


def _owner(groups):
    check = _refuse_equal(2, groups)
    return [(JUMP_EQUAL, 0, len(check), F_SETOWN)] + check


def instructions(machine, network, protected, fresh):
    """The program as (code, jt, jf, k). `protected`: PIDs, as user code's namespace counts, that it may not touch;
    `fresh`: that namespace is its own, so that kill(-1) reaches nobody else."""
    if not all(isinstance(pid, int) and 0 < pid < 2**31 for pid in protected):
        raise ValueError("a protected pid is not a positive integer")
    if len(protected) > MAX_PROTECTED:
        raise ValueError("more than %d protected pids" % MAX_PROTECTED)
    program = [
        (LOAD, 0, 0, ARCH_OFFSET),
        (JUMP_EQUAL, 1, 0, syscall_table.AUDIT_ARCH[machine]),
        (RETURN, 0, 0, RET_KILL_PROCESS),
        (LOAD, 0, 0, NUMBER_OFFSET),
        # Also every number of the x32 ABI, which has bit 30 set and the same architecture.
        (JUMP_GREATER, 0, 1, syscall_table.NEWEST),
    ] + _refuse(ENOSYS)
    bodies = {}
    for name, body in _conditions(network, tuple(protected), fresh):
        bodies[syscall_table.number(name, machine)] = body + [(RETURN, 0, 0, RET_ALLOW)]
    for code, names in REFUSED:
        for name in names:
            bodies[syscall_table.number(name, machine)] = _refuse(code)
    bodies.pop(None, None)
    return program + _search(sorted(bodies.items()))


def _search(bodies):
    """Finds the body of a number by halves. The kernel asks for every number there is when the filter is installed, and
    one after the other that took it a tenth of a millisecond for each cell."""
    if len(bodies) <= _CALLS_OF_A_LEAF:
        leaf = [step for number, body in bodies for step in [(JUMP_EQUAL, 0, len(body), number)] + body]
        return leaf + [(RETURN, 0, 0, RET_ALLOW)]
    middle = len(bodies) // 2
    lower, upper = _search(bodies[:middle]), _search(bodies[middle:])
    last = bodies[middle - 1][0]
    if len(lower) <= _FARTHEST_JUMP:
        return [(JUMP_GREATER, len(lower), 0, last)] + lower + upper
    return [(JUMP_GREATER, 0, 1, last), (JUMP, 0, 0, len(lower))] + lower + upper


def assemble(program):
    """The bytes of struct sock_filter[]; both machines are little endian."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
