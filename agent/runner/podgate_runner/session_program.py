"""The last steps of a session's program before its first instruction, in the process that becomes it."""

import fcntl
import os
import resource
import signal

from podgate_runner import session_files, session_python, syscalls, terminal_device

_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
# Above the descriptors that a program is given.
_ASIDE = 20


def become(job, fds, telling, settings):
    """Executes the job's program. Whatever fails before that is told over `telling`."""
    try:
        telling = prepare(job, fds, telling, settings)
    except BaseException as error:
        os.write(telling, ("%s: %s" % (type(error).__name__, error)).encode("utf-8", "replace")[:1000])
        os._exit(1)
    if "python" in job:
        session_python.serve(lambda: os.close(telling))
    os.close(telling)
    if "files" in job:
        session_files.serve(job["files"])
    try:
        os.execve(job["program"], job["argv"], job["environ"])
    except OSError as error:
        os.write(2, ("%s: %s\n" % (job["argv"][0], error.strerror)).encode("utf-8", "replace"))
        os._exit(126)


def prepare(job, fds, telling, settings):
    os.setsid()
    # As in child.enter.
    os.nice(settings["nice"])
    for number in _DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    telling = fcntl.fcntl(telling, fcntl.F_DUPFD_CLOEXEC, _ASIDE)
    fds = [fcntl.fcntl(fd, fcntl.F_DUPFD, _ASIDE) for fd in fds]
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    syscalls.close_range(len(fds), telling - 1)
    syscalls.close_range(telling + 1)
    if "terminal" in job:
        terminal_device.take_control()
    os.chdir(settings["workspace"])
    syscalls.set_dumpable(True)
    for limit, soft, hard in job["rlimits"]:
        _, ceiling = resource.getrlimit(limit)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(limit, (soft, hard))
    return telling


def hear(said):
    """What was told, empty when all went well; closes `said`."""
    words = b""
    while True:
        piece = os.read(said, 1000)
        if not piece:
            os.close(said)
            return words.decode("utf-8", "replace")
        words += piece

