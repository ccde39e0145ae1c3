"""The keeper of a session: starts its programs and sees to their ends, inside the session's place.

It is forked from the warm zygote, so that what the template preloads is there, and runs nothing that a user wrote. For
every program it forks a warden, which is the subreaper of all that the program starts: what belongs to which program is
exact, also for what has left its session and its parents. Messages to it: ("spawn", id, job) with the program's
descriptors from 0 up, and ("signal", id, number), ("kill", id), ("sweep", id, newest, there) for the program's warden. From it:
("ready", pid), ("terminal", id) with master and slave, ("refused", id, code, sentence), and what wardens say, the id behind
the first word.
"""

import os
import select
import signal
import time
import _socket

from podgate_runner import confine, courier, session_warden, syscalls, terminal_device
from podgate_runner.limits import WARDEN_SECONDS
from podgate_runner.session_tree import below

_ROUNDS_SECONDS = 0.0005


def main(settings):
    """Never returns. `settings`: workspace, nice."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, 0)
    os.set_inheritable(0, False)
    try:
        protect()
        Keeper(sock, settings).run()
    except BaseException as error:
        os.write(2, ("podgate-keeper: %r\n" % error).encode())
    os._exit(1)


def protect():
    """Whoever lives in the session can neither signal this process nor look into it; all it forks inherits that."""
    syscalls.set_dumpable(False)
    syscalls.set_child_subreaper(True)
    # Also in fresh namespaces others live here: kill(-1) would reach this process and whatever runs beside.
    asked = {"network": True, "protected_pids": [os.getpid()], "writable": [], "fresh": False, "require": []}
    confinement = confine.Confinement(asked)
    confinement.bequeath()
    confinement.close()


class Keeper:
    def __init__(self, sock, settings):
        self._sock = sock
        self._settings = settings
        self._receiver = courier.Receiver(sock)
        # Warden's pid → its end of the wire, what reads it, and the program's id.
        self._wardens = {}
        # Those whose program may have begun though they have not said so.
        self._silent = set()
        # When those that were told to end their programs must have done so: whoever lives here can stop them.
        self._due = {}
        self._wake = session_warden.wakened_by_children()

    def run(self):
        kill_strays(self._wardens)
        courier.send(self._sock, ("ready", os.getpid()))
        while True:
            poll = select.poll()
            for fd in [self._sock.fileno(), self._wake] + [wire.fileno() for wire, _, _ in self._wardens.values()]:
                poll.register(fd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll(self._wait_ms())}
            for pid, (wire, words, program) in list(self._wardens.items()):
                if wire.fileno() in ready:
                    self._hear(pid, words, program)
            for pid, due in list(self._due.items()):
                if time.monotonic() >= due:
                    self._lose(pid, self._wardens[pid][2])
            if self._wake in ready:
                session_warden.empty(self._wake)
                session_warden.bury()
            if self._sock.fileno() in ready:
                messages = self._receiver.read()
                if messages is None:
                    os._exit(0)
                for message, fds in messages:
                    self._obey(message, fds)

    def _wait_ms(self):
        return max(0.0, min(self._due.values()) - time.monotonic()) * 1000 if self._due else None

    def _obey(self, message, fds):
        kind, program = message[0], message[1]
        if kind == "spawn":
            self._spawn(program, message[2], fds)
            for fd in fds:
                os.close(fd)
            return
        for pid, (wire, _, own) in self._wardens.items():
            if own == program:
                if kind == "kill":
                    self._due.setdefault(pid, time.monotonic() + WARDEN_SECONDS)
                try:
                    os.kill(pid, signal.SIGCONT)
                    courier.send(wire, (kind,) + message[2:])
                except OSError:
                    pass

    def _spawn(self, program, job, fds):
        if "terminal" in job:
            fds += self._open_terminal(program, job["terminal"])
            if not fds:
                return
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            courier.send(self._sock, ("failed", program, error.strerror))
            return
        if pid == 0:
            try:
                ours.close()
                session_warden.warden(theirs, job, fds, self._settings)
            finally:
                os._exit(1)
        theirs.close()
        # Nobody waits for a warden that reads nothing.
        ours.setblocking(False)
        self._wardens[pid] = (ours, courier.Receiver(ours), program)
        if job.get("program"):
            self._silent.add(pid)

    def _open_terminal(self, program, size):
        """Three descriptors of one, whose other side the runner gets; none where there is no terminal."""
        try:
            master, slave = terminal_device.open_pair(*size)
        except OSError as error:
            courier.send(self._sock, ("refused", program, "no_terminal", terminal_device.missing(error)))
            return []
        courier.send(self._sock, ("terminal", program), [master, slave])
        os.close(master)
        return [slave, os.dup(slave), os.dup(slave)]

    def _hear(self, pid, words, program):
        try:
            messages = words.read()
        except OSError:
            messages = None
        for message, _ in messages or ():
            self._silent.discard(pid)
            courier.send(self._sock, (message[0], program) + message[1:])
            if message[0] == "exit":
                self._forget(pid)
        if messages is None:
            # Killed by what it watched.
            self._lose(pid, program)

    def _lose(self, pid, program):
        """Whatever such a warden had comes to this process. What it started may have ended it before it could say so: that
        has begun, for nobody may run it again."""
        if pid in self._silent:
            courier.send(self._sock, ("started", program, time.monotonic(), pid, pid))
        self._forget(pid)
        kill_strays(self._wardens)
        courier.send(self._sock, ("exit", program, int(signal.SIGKILL), None, time.monotonic()))

    def _forget(self, pid):
        self._wardens.pop(pid)[0].close()
        self._due.pop(pid, None)
        self._silent.discard(pid)


def kill_strays(known):
    """Everything below this process that is not a warden's."""
    own = os.getpid()
    while True:
        left = session_warden.freeze(lambda: below(own, known))
        if not left:
            return
        session_warden.signal_all(left, signal.SIGKILL)
        session_warden.bury()
        time.sleep(_ROUNDS_SECONDS)
