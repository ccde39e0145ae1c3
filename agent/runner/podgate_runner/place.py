"""Where an execution runs. One interface, two makers: the sandbox's own namespaces, and fresh ones below it."""

import os
import select
import signal
import stat
import time

from podgate_runner import departure, mounts, processes, socket_cycles
from podgate_runner.limits import KILL_FREEZE_ROUNDS, KILL_SECONDS

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class SharedPlace:
    """The sandbox itself. Everything that descends from the runner, but for the zygote, is the user's."""

    keeps_files = True

    def __init__(self, config, link, reaper):
        self.link = link
        self.workspace_fd = os.open(config["workspace"], _DIRECTORY)
        self.proc_fd = os.open(config["proc_root"], _DIRECTORY)
        self._runner = os.getpid()
        self._reaper = reaper
        self._watched = mounts.unbounded(config)
        places = [config["workspace"]] + config["scratch"]
        self.modes = {path: _known(_mode, path) for path in places}
        self.attributes = {path: _known(attributes, path) for path in places}
        # A preloaded module may hold some.
        self.inodes = {path: mounts.inodes(path) for path in places if mounts.is_tmpfs(config["proc_root"], path)}
        # Sockets that were there before any program.
        self.sockets = socket_cycles.count(config["proc_root"])
        # The zygote's one child, if there is one, is not the user's yet.
        self.waiting = False
        # The main process of an execution that said EXIT, while the kernel takes it down; or 0.
        self.leaving = 0

    def processes(self):
        found = {}
        for pid in processes.pids(self.proc_fd):
            if pid not in (self._runner, self.link.pid):
                process = processes.read(self.proc_fd, pid)
                if process is not None:
                    found[pid] = process
        return [process for process in found.values() if self._is_ours(process, found)]

    def _is_ours(self, process, found):
        """Orphans come to the runner, so whatever does not lead to it entered from outside. What is leaving leads there, and
        its number may be another's as soon as the zygote has buried it."""
        if process.pid == self.leaving and process.parent == self.link.pid:
            return False
        for _ in range(len(found) + 1):
            parent = process.parent
            if parent == self.link.pid:
                return not self.waiting
            if parent == self._runner:
                return True
            if parent not in found:
                # Its parent ended while we looked: it is an orphan by now, unless it never had one here.
                return parent != 0 and self._runner == 1
            process = found[parent]
        return True

    def departed(self, inner_pid, pid):
        """As departure.py has it. From then on that process is nobody's, until the zygote tells of its end."""
        ended = departure.departed(self.proc_fd, inner_pid, pid)
        if ended is not None:
            self.leaving = inner_pid
        return ended

    def waited_cpu(self):
        return self._reaper.cpu

    def final_cpu(self, main_cpu):
        """Of the main process, what it waited for, and the orphans that came to the runner."""
        return (main_cpu or 0.0) + self._reaper.cpu

    def tmpfs_bytes(self):
        """Memory in mounts that may hold more than was budgeted for them."""
        return mounts.used_bytes(self._watched)

    def peak_of(self, pid):
        return processes.peak_memory(self.proc_fd, pid)

    def kill(self):
        """Ends every process of the user. Returns those that would not die."""
        left = self.processes()
        if not left:
            return []
        deadline = time.monotonic() + KILL_SECONDS
        self._freeze(left)
        while True:
            for process in self.processes():
                _signal(process.pid, signal.SIGKILL)
            self._reaper.reap()
            left = self.processes()
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.0005)

    def clear(self, alone):
        """As `kill`: orphans are the runner's here, so what the zygote sees is not all."""
        return self.kill()

    def _freeze(self, left):
        """A tree that forks faster than it is killed is stopped first: what is stopped forks no more."""
        frozen = set()
        for _ in range(KILL_FREEZE_ROUNDS):
            new = [process.pid for process in left if process.pid not in frozen]
            if not new:
                return
            for pid in new:
                _signal(pid, signal.SIGSTOP)
            frozen.update(new)
            left = self.processes()

    def close(self):
        os.close(self.workspace_fd)
        os.close(self.proc_fd)


class Cell:
    """Fresh namespaces for one execution. `link` speaks to their PID 1; its end is the end of all within."""

    keeps_files = False

    def __init__(self, link, pid, workspace_fd, proc_fd, reaper):
        self.link = link
        self.workspace_fd = workspace_fd
        self.proc_fd = proc_fd
        # As in SharedPlace: the child of the cell's own zygote.
        self.waiting = True
        # A program ran in it, and nobody lives there but the cell's own zygote.
        self.empty = False
        self.leaving = 0
        self._pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._reaper = reaper
        reaper.expect(pid)
        self._cpu = 0.0

    def processes(self):
        found = []
        for pid in self._pids():
            process = processes.read(self.proc_fd, pid)
            if process is not None and not (self.waiting and process.parent == 1):
                found.append(process)
        return found

    def _pids(self):
        return [pid for pid in processes.pids(self.proc_fd) if pid not in (1, self.leaving)]

    departed = SharedPlace.departed

    def waited_cpu(self):
        first = processes.read(self.proc_fd, 1)
        return first.waited_cpu if first else 0.0

    def final_cpu(self, main_cpu):
        """Of the main process and what it waited for; of the whole cell where it could not tell any more."""
        return self._cpu if main_cpu is None else main_cpu

    def tmpfs_bytes(self):
        return 0

    def peak_of(self, pid):
        return processes.peak_memory(self.proc_fd, pid)

    def kill(self):
        if self._pidfd < 0:
            return []
        _signal(self._pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(KILL_SECONDS * 1000):
            return self.processes()
        os.close(self._pidfd)
        self._pidfd = -1
        self._reaper.reap()
        ended = self._reaper.take(self._pid)
        if ended is not None:
            self._cpu = ended[1]
        return []

    def clear(self, alone):
        """As `kill`, when there is somebody left but the cell's own zygote. `alone` is exact: see zygote.py. Where it was not
        asked, so are the names in /proc: who forks and ends is always there under one of them."""
        self.empty = not self._pids() if alone is None else alone
        return [] if self.empty else self.kill()

    def close(self):
        if self.empty and self._pidfd >= 0:
            # Nobody waits for the kernel to take the namespaces down; the reaper buries who held them.
            _signal(self._pid, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1
        self.kill()
        self._reaper.forget(self._pid)
        self.link.close()
        os.close(self.workspace_fd)
        os.close(self.proc_fd)


def attributes(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def _mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def _known(ask, path):
    try:
        return ask(path)
    except OSError:
        return None


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
