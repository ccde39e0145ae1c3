"""What a forked child does to itself between the fork and the first line of user code."""

import gc
import os
import resource
import select
import signal
import sys
import time

from podgate_runner import courier, late_environment, priority, pyrun, syscalls
from podgate_runner.limits import CROWDED, REHEARSE_LATER_SECONDS

# What a child needs no more: to free it would write to as many pages.
_kept = None
#: Set by a zygote that shares memory with what it forks: gives a child its own of it.
own_memory = None

#: What PID 1 of a cell does not hear.
INTERRUPT = (signal.SIGINT,)
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT)


def prepare(message, fds, receiver, sock, config, confinement):
    """Returns what begins user code. Whatever fails is told to the runner, and user code never begins."""
    global _kept
    _kept = (receiver, config, confinement, sock)
    trouble = None
    begun_at, taken = time.monotonic(), time.process_time()
    try:
        settle(config, confinement)
        is_crowded = time.monotonic() - begun_at > CROWDED * (time.process_time() - taken)
        # Where others want the processors it is done only if nobody wants this child meanwhile: it is a tenth of all that an
        # execution takes, and brings nothing where the job would have to wait for it.
        if message[0] == "child" and not message[1] and not (is_crowded and comes(sock)):
            pyrun.rehearse()
            courier.rehearse()
    except BaseException as error:
        # A child that was asked for ahead has nobody to tell before there is a job.
        trouble = error
    if message[0] == "child":
        message, fds = job_for(receiver)
    try:
        if trouble is not None:
            raise trouble
        job = message[1]
        enter(job, fds, config["workspace"])
        if job["program"]:
            return lambda: execute(job, sock)
        begun(sock, fds[3:])
        if "boot" in job:
            # What only some need comes with their job: the keeper of session.py, and rich_execution.py.
            return lambda: exec(job["boot"], {"job": job, "fds": fds[3:], "pyrun": pyrun})
        path, args, interactive = job["path"], job["args"], job["interactive"]
        return lambda: pyrun.run(path, args, interactive)
    except BaseException as error:
        courier.send(sock, ("failed", "%s: %s" % (type(error).__name__, error)))
        os._exit(1)


def settle(config, confinement):
    """All that needs no job. Nothing of the user's is alive meanwhile: see Supply.next_child."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT)
    syscalls.set_dumpable(True)
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(fd, b"1000")
    os.close(fd)
    syscalls.set_dumpable(False)
    if own_memory is not None:
        own_memory()
    # What is drawn here serves one execution, as if it were drawn later.
    reseed()
    gc.enable()
    if confinement is None:
        raise RuntimeError("what the template requires cannot be held here")
    confinement.apply()


def comes(sock):
    """Whether there is a job before the time of a rehearsal that was put off."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(REHEARSE_LATER_SECONDS * 1000))


def job_for(receiver):
    """Waits for ("run", job) and its descriptors. The runner's end, or its letting go, ends this process."""
    while True:
        messages = receiver.read()
        if messages is None:
            os._exit(0)
        if messages:
            return messages[0]


def enter(job, fds, workspace):
    priority.take_turn()
    # Not ahead: what the program before did to the folder, a reset may have undone since.
    os.chdir(workspace)
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    syscalls.set_dumpable(True)
    for limit, soft, hard in job["rlimits"]:
        try:
            resource.setrlimit(limit, (soft, hard))
        except (ValueError, OSError):
            # The sandbox itself is bound tighter.
            _, ceiling = resource.getrlimit(limit)
            resource.setrlimit(limit, (min(soft, ceiling), min(hard, ceiling)))
    late_environment.take(job["env"])
    if job.get("nice"):
        # Where the sandbox has a processor of its own, those who end a program have their turn before all that it forks.
        os.nice(job["nice"])


def begun(sock, kept=()):
    """The last words to the runner: after them no descriptor of Podgate's is left, but for what the job wants `kept`."""
    courier.send(sock, ("started", time.monotonic(), os.getpid()))
    first = 3
    for fd in kept:
        syscalls.close_range(first, fd - 1)
        first = fd + 1
    syscalls.close_range(first)
    # The socket object would close a descriptor that may be the user's by then.
    sock.detach()


def execute(job, sock):
    """Becomes bash or node."""
    for number in _DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    environ = dict(os.environ)
    begun(sock)
    try:
        os.execve(job["program"], [job["name"], job["path"]] + job["args"], environ)
    except OSError as error:
        os.write(2, ("%s: %s\n" % (job["name"], error.strerror)).encode("utf-8", "replace"))
        os._exit(126)


def reseed():
    """`random` reseeds itself after a fork; numpy's legacy generator does not."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
