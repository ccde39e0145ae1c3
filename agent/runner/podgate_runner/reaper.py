"""PID 1's duty: whatever is left without a parent is the runner's to bury."""

import os
import signal
import time


class Reaper:
    def __init__(self):
        self.cpu = 0.0
        self.wake_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(self._write_fd, False)
        # Processes of Podgate's own: their time is nobody's.
        self.own = set()
        # Pid → (status, cpu seconds, time) of children that somebody waits for.
        self._awaited = {}

    def watch(self):
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)

    def begin(self):
        self.cpu = 0.0

    def expect(self, pid):
        self._awaited[pid] = None

    def take(self, pid):
        """How an awaited child ended, once."""
        if self._awaited.get(pid) is None:
            return None
        return self._awaited.pop(pid)

    def forget(self, pid):
        self._awaited.pop(pid, None)

    def wake(self):
        try:
            os.read(self.wake_fd, 4096)
        except BlockingIOError:
            pass
        self.reap()

    def reap(self):
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            cpu = usage.ru_utime + usage.ru_stime
            if pid in self.own:
                self.own.discard(pid)
                continue
            self.cpu += cpu
            if pid in self._awaited:
                self._awaited[pid] = (status, cpu, time.monotonic())


def _ignore(number, frame):
    pass
