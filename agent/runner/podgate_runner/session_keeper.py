"""The keeper of a session: starts its programs and sees to their ends, inside the session's place.

It is forked from the warm zygote, so that what the template preloads is there, and runs nothing that a user wrote. For
every program it forks a warden, which is the subreaper of all that the program starts: what belongs to which program is
exact, also for what has left its session and its parents. Messages to it: ("spawn", id, job) with the program's
descriptors from 0 up, ("signal", id, number), ("kill", id). From it: ("ready", pid), ("started", id, time, pid, warden),
("failed", id, sentence), ("terminal", id) with master and slave, ("refused", id, code, sentence), ("exit", id, status, cpu seconds, time).
"""

import marshal
import os
import select
import signal
import time
import _socket

from podgate_runner import confine, courier, session_program, syscalls, terminal_device
from podgate_runner.session_tree import below, children_of

_KILL, _ROUNDS_SECONDS = b"k", 0.0005
_WARDEN_BYTES = 4096


def main(settings):
    """Never returns. `settings`: workspace."""
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
    confinement = confine.prepare(asked)
    confinement.bequeath()
    confinement.close()


class Keeper:
    def __init__(self, sock, settings):
        self._sock = sock
        self._settings = settings
        self._receiver = courier.Receiver(sock)
        # Warden's pid → its end of the wire, and the program's id.
        self._wardens = {}
        self._wake = wakened_by_children()

    def run(self):
        kill_strays(self._wardens)
        courier.send(self._sock, ("ready", os.getpid()))
        while True:
            poll = select.poll()
            for fd in [self._sock.fileno(), self._wake] + [wire.fileno() for wire, _ in self._wardens.values()]:
                poll.register(fd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            for pid, (wire, program) in list(self._wardens.items()):
                if wire.fileno() in ready:
                    self._hear(pid, wire, program)
            if self._wake in ready:
                empty(self._wake)
                self._bury()
            if self._sock.fileno() in ready:
                messages = self._receiver.read()
                if messages is None:
                    os._exit(0)
                for message, fds in messages:
                    self._obey(message, fds)

    def _obey(self, message, fds):
        kind, program = message[0], message[1]
        if kind == "spawn":
            self._spawn(program, message[2], fds)
            for fd in fds:
                os.close(fd)
            return
        for pid, (wire, own) in self._wardens.items():
            if own == program:
                order = _KILL if kind == "kill" else bytes((128 + message[2],))
                try:
                    os.kill(pid, signal.SIGCONT)
                    wire.send(order)
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
                warden(theirs, job, fds, self._settings)
            finally:
                os._exit(1)
        theirs.close()
        self._wardens[pid] = (ours, program)

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

    def _hear(self, pid, wire, program):
        try:
            data = wire.recv(_WARDEN_BYTES)
        except OSError:
            data = b""
        if data:
            for message in unpacked(data):
                courier.send(self._sock, (message[0], program) + message[1:])
                if message[0] == "exit":
                    self._forget(pid)
        else:
            # Killed by what it watched: whatever it had comes to this process.
            self._forget(pid)
            kill_strays(self._wardens)
            courier.send(self._sock, ("exit", program, int(signal.SIGKILL), None, time.monotonic()))

    def _forget(self, pid):
        self._wardens.pop(pid)[0].close()

    def _bury(self):
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return


def warden(wire, job, fds, settings):
    """Watches over one program: starts it, signals it, and when it has ended ends all that it left. Never returns."""
    os.setsid()
    syscalls.set_child_subreaper(True)
    signal.set_wakeup_fd(-1)
    os.dup2(1, 0)
    syscalls.close_all_but([0, 1, 2, wire.fileno()] + list(fds))
    wake = wakened_by_children()
    said, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        session_program.become(job, fds, telling, settings)
        os._exit(1)
    os.close(telling)
    for fd in fds:
        os.close(fd)
    words = session_program.hear(said)
    began = time.monotonic()
    if words:
        tell(wire, ("failed", words))
    else:
        tell(wire, ("started", began, pid, os.getpid()))
    status = attend(wire, wake, pid)
    ended = time.monotonic()
    end_all()
    usage = os.times()
    tell(wire, ("exit", status, usage.children_user + usage.children_system, ended))
    os._exit(0)


def attend(wire, wake, pid):
    """The program's wait status."""
    poll = select.poll()
    poll.register(wire.fileno(), select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == wake:
                empty(wake)
            else:
                obey(wire, pid)
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == pid:
                return status
            if ended == 0:
                break


def obey(wire, pid):
    orders = wire.recv(64) or _KILL
    for order in orders:
        try:
            if order >= 128:
                os.killpg(pid, order - 128)
            else:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def end_all():
    """Ends everything below this process. What is stopped forks no more, so a tree that grows faster than it is killed is
    stopped first."""
    own = os.getpid()
    while True:
        left = below(own)
        frozen = set()
        while True:
            new = [pid for pid in left if pid not in frozen]
            if not new:
                break
            signal_all(new, signal.SIGSTOP)
            frozen.update(new)
            left = below(own)
        signal_all(left, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_ROUNDS_SECONDS)


def kill_strays(known):
    """Everything below this process that is not a warden's."""
    own = os.getpid()
    while True:
        strays = [pid for pid in children_of(own) if pid not in known]
        if not strays:
            return
        for pid in strays:
            signal_all(below(pid) + [pid], signal.SIGKILL)
        try:
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
        except ChildProcessError:
            return
        time.sleep(_ROUNDS_SECONDS)


def signal_all(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def wakened_by_children():
    """A descriptor that can be read when a child has ended."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def empty(fd):
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        pass


def tell(wire, message):
    body = marshal.dumps(message)
    wire.sendall(len(body).to_bytes(2, "big") + body)


def unpacked(data):
    """Messages of a warden are small and sent whole."""
    while data:
        size = int.from_bytes(data[:2], "big")
        yield marshal.loads(data[2 : 2 + size])
        data = data[2 + size :]
