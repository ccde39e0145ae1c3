"""Watches the processes of one execution: CPU and memory of them all together."""

import os

from podgate_runner import processes
from podgate_runner.limits import (
    MEMORY_SLACK_BYTES,
    WATCH_AGAIN_SECONDS,
    WATCH_CONFIRM_LOOKS,
    WATCH_FIRST_SECONDS,
    WATCH_GROWTH,
    WATCH_LAST_SECONDS,
)
from podgate_runner.spent import Spent


class Watch:
    def __init__(self, place, now, cpu_seconds, memory_bytes, base_bytes):
        self._place = place
        self._cpu_seconds = cpu_seconds
        # Above what one process can reach: RLIMIT_DATA gives it a MemoryError first.
        self._memory_bytes = memory_bytes + base_bytes + MEMORY_SLACK_BYTES
        self._interval = WATCH_FIRST_SECONDS
        self.due = now + WATCH_FIRST_SECONDS
        self._tmpfs_before = place.tmpfs_bytes()
        self._looks_over = 0
        self._spent = Spent()
        self.cpu = 0.0
        self.peak = 0

    def poll(self, now, main_pid):
        """The limits that are passed: a set of `cpu` and `memory`."""
        self._interval = min(self._interval * WATCH_GROWTH, WATCH_LAST_SECONDS)
        self.due = now + self._interval
        tree = self._place.processes()
        passed = set()
        cpu = self._place.waited_cpu() + sum(process.cpu + process.waited_cpu for process in tree)
        self.cpu = max(self.cpu, cpu, self._spent.look(tree))
        if self.cpu >= self._cpu_seconds:
            passed.add("cpu")
        if not self._is_over(tree, main_pid):
            self._looks_over = 0
        else:
            # What changes while it is looked at may count twice, as the memory of a parent and of its child by vfork.
            self._looks_over += 1
            if len(tree) == 1 or self._looks_over >= WATCH_CONFIRM_LOOKS:
                passed.add("memory")
            self.due = now + WATCH_AGAIN_SECONDS
        if not passed:
            # Next look no later than the CPU limit can be met with every core busy.
            self.due = min(self.due, now + max((self._cpu_seconds - self.cpu) / (os.cpu_count() or 1), 0.005))
        return passed

    def _is_over(self, tree, main_pid):
        used = sum(process.rss for process in tree)
        tmpfs = self._place.tmpfs_bytes() - self._tmpfs_before
        if used + tmpfs > self._memory_bytes:
            used = self._exact(tree)
        self.peak = max(self.peak, used, self._place.peak_of(main_pid))
        return used + tmpfs > self._memory_bytes

    def _exact(self, tree):
        """Pages that forks share count once: the rough sum counts them in each. A child made by vfork is within its parent's
        memory, and its parent is held, until it executes; one at most for each, since any other may look like it."""
        proc_fd = self._place.proc_fd
        alike = {(process.parent, process.rss): process.pid for process in tree}
        within = set()
        for process in tree:
            child = alike.get((process.pid, process.rss))
            if child is not None and processes.is_held(proc_fd, process.pid):
                within.add(child)
        return sum(processes.own_memory(proc_fd, process.pid) for process in tree if process.pid not in within)
