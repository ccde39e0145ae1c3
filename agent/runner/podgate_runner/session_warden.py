"""The warden of one program of a session: starts it, signals it, and when it has ended ends all that it left.

It is forked by the keeper, and is the subreaper of all that the program starts. Orders to it: ("signal", number), ("kill",),
("sweep", newest, there). From it: ("started", time, pid, warden), ("failed", sentence), ("swept", whether nothing is left),
("exit", status, cpu seconds, time).
"""

import math
import os
import select
import signal
import time

from podgate_runner import courier, session_program, syscalls
from podgate_runner.limits import SWEEP_SECONDS
from podgate_runner.session_tree import below, started_by

_ROUNDS_SECONDS = 0.0005


def warden(wire, job, fds, settings):
    """Never returns."""
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
        courier.send(wire, ("failed", words))
    else:
        courier.send(wire, ("started", began, pid, os.getpid()))
    status = attend(wire, wake, pid)
    ended = time.monotonic()
    end_all()
    usage = os.times()
    courier.send(wire, ("exit", status, usage.children_user + usage.children_system, ended))
    os._exit(0)


def attend(wire, wake, pid):
    """The program's wait status."""
    orders = courier.Receiver(wire)
    poll = select.poll()
    poll.register(wire.fileno(), select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == wake:
                empty(wake)
            else:
                messages = orders.read()
                for order, _ in [(("kill",), ())] if messages is None else messages:
                    obey(wire, pid, *order)
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == pid:
                return status
            if ended == 0:
                break


def obey(wire, pid, kind, *rest):
    try:
        if kind == "sweep":
            courier.send(wire, ("swept", sweep(pid, *rest)))
        elif kind == "signal":
            os.killpg(pid, rest[0])
        else:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def sweep(program, newest, there):
    """Ends what the program started since the youngest of what it had were born at `newest`: these were `there`. It waits
    so long. False where that does not come to an end."""
    own, until = os.getpid(), time.monotonic() + SWEEP_SECONDS
    signal_all([program], signal.SIGSTOP)
    try:
        while time.monotonic() < until:
            left = freeze(lambda: started_by(program, own, newest, there), until)
            if not left:
                return True
            signal_all(left, signal.SIGKILL)
            time.sleep(_ROUNDS_SECONDS)
        return False
    finally:
        signal_all([program], signal.SIGCONT)


def end_all():
    """Ends everything below this process."""
    own = os.getpid()
    while True:
        signal_all(freeze(lambda: below(own)), signal.SIGKILL)
        if not bury():
            return
        time.sleep(_ROUNDS_SECONDS)


def bury():
    """Whether this process has any child then."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def freeze(find, until=math.inf):
    """Stops all that it finds, and tells what that is. What is stopped forks no more: a tree may grow faster than it is killed."""
    frozen, left = set(), find()
    while time.monotonic() < until:
        new = [pid for pid in left if pid not in frozen]
        if not new:
            break
        signal_all(new, signal.SIGSTOP)
        frozen.update(new)
        left = find()
    return left


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
