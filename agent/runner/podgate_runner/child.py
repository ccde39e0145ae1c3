"""What a forked child does to itself between the fork and the first line of user code."""

import gc
import os
import resource
import signal
import sys
import time

from podgate_runner import courier, pyrun, syscalls

_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT)


def prepare(job, fds, sock, config, confinement):
    """Returns what begins user code. Whatever fails is told to the runner, and user code never begins."""
    try:
        enter(job, fds, sock, config, confinement)
        if job["program"]:
            return lambda: execute(job, sock)
        pyrun.forget_podgate()
        begun(sock)
        path, args, interactive = job["path"], job["args"], job["interactive"]
        return lambda: pyrun.run(path, args, interactive)
    except BaseException as error:
        courier.send(sock, ("failed", "%s: %s" % (type(error).__name__, error)))
        os._exit(1)


def enter(job, fds, sock, config, confinement):
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    syscalls.set_dumpable(True)
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(b"1000")
    for limit, soft, hard in job["rlimits"]:
        try:
            resource.setrlimit(limit, (soft, hard))
        except (ValueError, OSError):
            # The sandbox itself is bound tighter.
            _, ceiling = resource.getrlimit(limit)
            resource.setrlimit(limit, (min(soft, ceiling), min(hard, ceiling)))
    os.environ.update(job["env"])
    os.chdir(config["workspace"])
    reseed()
    gc.enable()
    if confinement is None:
        raise RuntimeError("what the template requires cannot be held here")
    confinement.apply()


def begun(sock):
    """The last words to the runner: after them no descriptor of Podgate's is left."""
    courier.send(sock, ("started", time.monotonic(), os.getpid()))
    syscalls.close_range(3)
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
