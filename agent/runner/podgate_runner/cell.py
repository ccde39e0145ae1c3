"""A cell: fresh user, PID, mount, IPC and network namespaces below the sandbox's own, for one execution.

Nothing here watches for the runner's death: a cell's processes have PIDs in the runner's namespace too, and the kernel
ends them all when that namespace loses its PID 1.
"""

import os

from podgate_runner import confine, namespaces, syscalls

#: Inodes of a tmpfs: as the kernel counts, one for each page of its size, but never more than this.
MAX_INODES = 262144
_PAGE_BYTES = 4096
_MIN_INODES = 1024


def fork(sibling):
    """As os.fork; the child is PID 1 of new namespaces and is to call `enter`. As a sibling it is not ours to wait for,
    but our parent's; PID 1 of a namespace has none. One fork, where unshare would need a second. Raises NamespaceError."""
    return namespaces.fork(namespaces.ISOLATED | (syscalls.CLONE_PARENT if sibling else 0))


def enter(cfg, uid, gid):
    """Furnishes the namespaces of the calling process, forked above, and returns (workspace_fd, proc_fd) there.

    `cfg`: workspace, scratch, workspace_bytes, tmp_bytes; `uid` and `gid` are what they were before the fork. Raises
    NamespaceError.
    """
    # The maps of a user namespace can be written only by who may look into the process.
    syscalls.set_dumpable(True)
    namespaces.map_ids(uid, gid, uid, gid)
    syscalls.set_dumpable(False)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    namespaces.mount("proc", "/proc", "proc", flags | syscalls.MS_NOEXEC)
    namespaces.mount("workspace", cfg["workspace"], "tmpfs", flags, tmpfs_options(cfg["workspace_bytes"], "0700", uid, gid))
    for path in cfg["scratch"]:
        namespaces.mount("scratch", path, "tmpfs", flags, tmpfs_options(cfg["tmp_bytes"], "1777", uid, gid))
    directory = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    proc_fd = os.open("/proc", directory)
    workspace_fd = os.open(cfg["workspace"], directory)
    namespaces.forbid_more()
    confine.drop_capabilities()
    os.chdir("/")
    return workspace_fd, proc_fd


def tmpfs_options(size, mode, uid, gid):
    """A page for each inode: more would be memory that no size bounds."""
    inodes = min(max(size // _PAGE_BYTES, _MIN_INODES), MAX_INODES)
    return "size=%d,nr_inodes=%d,mode=%s,uid=%d,gid=%d" % (size, inodes, mode, uid, gid)


def available():
    """(True, "") where cells can be made here, else (False, a sentence that names the setting)."""
    reading, writing = os.pipe()
    uid, gid = os.geteuid(), os.getegid()
    # An ordinary fork comes first: OpenBLAS and its like end their threads then, and have none when cells are forked.
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            inner = fork(sibling=False)
            if inner:
                os.waitpid(inner, 0)
                os._exit(0)
            enter({"workspace": "/tmp", "scratch": [], "workspace_bytes": 1 << 20, "tmp_bytes": 1 << 20}, uid, gid)
            os.write(writing, b"+")
        except BaseException as error:
            os.write(writing, ("%s" % error).encode("utf-8", "replace"))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if answer == b"+":
        return True, ""
    return False, answer.decode("utf-8", "replace") or "a process that makes namespaces ended without a word"
