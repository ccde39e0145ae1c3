"""What /proc says about the processes of a place. Reads through a descriptor of /proc: a cell's is not mounted here."""

import os

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_READ_BYTES = 4096


class Process:
    __slots__ = ("pid", "parent", "state", "cpu", "waited_cpu", "born", "rss")


def read_file(proc_fd, name):
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        return os.read(fd, _READ_BYTES)
    finally:
        os.close(fd)


def pids(proc_fd):
    return [int(name) for name in os.listdir(proc_fd) if name.isdigit()]


def read(proc_fd, pid):
    """None for a process that is gone."""
    try:
        data = read_file(proc_fd, "%d/stat" % pid)
    except OSError:
        return None
    # The name may hold spaces and parentheses; the last parenthesis ends it.
    fields = data[data.rfind(b")") + 2 :].split()
    if len(fields) < 22:
        return None
    process = Process()
    process.pid = pid
    process.state = fields[0]
    process.parent = int(fields[1])
    process.cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    process.waited_cpu = (int(fields[13]) + int(fields[14])) / _TICKS
    # Ticks since the machine began.
    process.born = int(fields[19])
    process.rss = int(fields[21]) * _PAGE
    return process


def is_held(proc_fd, pid):
    """Whether a thread of it waits and heeds nothing but SIGKILL, as one does whose child by vfork has not yet executed."""
    try:
        tasks = os.open("%d/task" % pid, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
    except OSError:
        return False
    try:
        threads = [read(tasks, thread) for thread in pids(tasks)]
    except OSError:
        return False
    finally:
        os.close(tasks)
    return any(thread is not None and thread.state == b"D" for thread in threads)


def own_memory(proc_fd, pid):
    """Bytes that this process adds: its share of anonymous and shared memory, exact where the kernel lets us look."""
    fields = _fields(proc_fd, "%d/smaps_rollup" % pid)
    if b"Pss_Anon" in fields:
        return fields[b"Pss_Anon"] + fields.get(b"Pss_Shmem", 0)
    fields = _fields(proc_fd, "%d/status" % pid)
    return fields.get(b"RssAnon", 0) + fields.get(b"RssShmem", 0)


def peak_memory(proc_fd, pid):
    return _fields(proc_fd, "%d/status" % pid).get(b"VmHWM", 0)


def parent_in_status(proc_root, pid):
    with open("%s/%d/status" % (proc_root, pid), "rb") as file:
        for line in file:
            if line.startswith(b"PPid:"):
                return int(line[5:])
    return -1


def resident(proc_fd, pid):
    try:
        return int(read_file(proc_fd, "%d/statm" % pid).split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _fields(proc_fd, name):
    """The lines `Name:  12 kB` of a file, in bytes; empty when it cannot be read."""
    try:
        data = read_file(proc_fd, name)
    except OSError:
        return {}
    fields = {}
    for line in data.split(b"\n"):
        if line.endswith(b" kB"):
            key, _, value = line.partition(b":")
            number = value[:-3].strip()
            # The name that a program gives itself may end so too.
            if number.isdigit():
                fields[key] = int(number) * 1024
    return fields


def data_bytes(proc_fd, pid):
    """What RLIMIT_DATA counts: private writable mappings."""
    try:
        return int(read_file(proc_fd, "%d/statm" % pid).split()[5]) * _PAGE
    except (OSError, IndexError):
        return 0


def threads(proc_fd, pid):
    try:
        data = read_file(proc_fd, "%d/stat" % pid)
        return int(data[data.rfind(b")") + 2 :].split()[17])
    except (OSError, IndexError):
        return 1
