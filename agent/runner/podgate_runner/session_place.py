"""What one program of a session is to the runner: its part of the place that the session keeps."""

from podgate_runner import processes
from podgate_runner.session_tree import descends


class ProgramPlace:
    """As SharedPlace and Cell to an execution. `keeper` sends to the session's keeper; what runs is in `place`."""

    keeps_files = True
    waiting = False

    def __init__(self, place, keeper, program):
        self._place = place
        self._keeper = keeper
        self._program = program
        self.workspace_fd = place.workspace_fd
        self.proc_fd = place.proc_fd
        # Of the process that watches over the program, once there is one.
        self.warden = 0
        self._waited = 0.0

    def processes(self):
        """The program and all that it started."""
        if not self.warden:
            return []
        found = {}
        for pid in processes.pids(self.proc_fd):
            process = processes.read(self.proc_fd, pid)
            if process is not None:
                found[pid] = process
        if self.warden in found:
            self._waited = found[self.warden].waited_cpu
        parents = {pid: process.parent for pid, process in found.items()}
        return [found[pid] for pid in found if pid != self.warden and descends(pid, self.warden, parents)]

    def departed(self, inner_pid, pid):
        """It has a warden, who says when it is over."""

    def waited_cpu(self):
        return self._waited

    def final_cpu(self, cpu):
        return cpu or 0.0

    def tmpfs_bytes(self):
        return self._place.tmpfs_bytes()

    def peak_of(self, pid):
        return processes.peak_memory(self.proc_fd, pid)

    def spawn(self, job, fds):
        self._keeper(("spawn", self._program, job), fds)

    def signal(self, number):
        self._tell("signal", int(number))

    def kill(self):
        """Begins it: the keeper says when nothing is left."""
        self._tell("kill")
        return []

    def _tell(self, kind, *rest):
        try:
            self._keeper((kind, self._program, *rest))
        except OSError:
            pass  # It is gone, and all that it had with it: their end comes by itself.

    def clear(self, alone):
        """Whoever said that the program ended has ended the rest before."""
        return []


