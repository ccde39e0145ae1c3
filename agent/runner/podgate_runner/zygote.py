"""The zygote: an interpreter that has imported what user code will want, and forks for every execution.

It runs nothing that a user wrote. Messages to it: ("child", awaited), for the next job; ("run", job) with stdin, stdout,
stderr; ("cell", config, awaited) with a socket on which the new cell then speaks this same protocol; ("echo", number).
`awaited`: the job is there, so that there is no time for a rehearsal. From it:
("ready", facts), ("started", time, pid), ("exit", status, cpu seconds, time, whether the child was asked for ahead, whether it left nobody in this cell, or None),
("cell",) with descriptors of workspace and /proc, ("failed", sentence), ("echo", number).

A child that was asked for ahead makes itself ready and then reads its job from this same socket, while the zygote does
nothing but wait for its end. If it dies before it has read, the zygote finds the job still there and forks for it.
"""

import gc
import os
import signal
import sys
import time
import _socket

from podgate_runner import child, confine, courier, harden, own_memory, priority, pyrun, stacks
from podgate_runner.limits import MAX_PRELOAD_ERRORS


# A cell's own processes, as its programs count.
_IN_CELL = (1,)
# More than an interpreter that adapts wants to see before it rewrites what runs often.
REHEARSALS = 20
# Children that end without SIGCHLD, as clone can make them, count too.
_WALL = 0x40000000


def serve(config):
    """Returns in a forked child only: what it is to run."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, 3)
    os.set_inheritable(3, False)
    os.setsid()
    for name in config["forget"]:
        del os.environ[name]
    harden.harden(b"python3")
    # Cells import this on demand; user code must not be able to bring its own.
    if config["place"] == "fresh":
        from podgate_runner import cell
    else:
        cell = None
    facts = prepare(config, cell)
    if cell:
        confine.foresee(config["network"], _IN_CELL, True)
    # Whatever names a thread that preloading left means this process.
    confinement = None if cell else confine_children(config, [os.getppid(), *threads()])
    courier.send(sock, ("ready", facts))
    if cell:
        priority.give_way()
    return attend(sock, config, cell, confinement)


def attend(sock, config, cell, confinement):
    receiver = courier.Receiver(sock)
    messages = []
    # Again, for what was made since: the interpreter's free lists, which a program's end empties, are spread over pages that
    # each child would copy.
    gc.collect()
    gc.freeze()
    while True:
        if not messages:
            messages = receiver.read()
            if messages is None:
                os._exit(0)
            continue
        message, fds = messages.pop(0)
        kind = message[0]
        if kind == "echo":
            courier.send(sock, message)
            continue
        if kind == "child" and (messages or receiver.unfinished):
            # The job is here, or a part of it: it has its own child in a moment.
            continue
        if kind == "cell":
            entered = fork_cell(cell, message[1], sock, fds)
            if entered is not None:
                sock = entered
                # A descriptor of /proc/1 is all that it takes to signal this process, and of this one it would die.
                signal.pthread_sigmask(signal.SIG_BLOCK, child.INTERRUPT)
                receiver, confinement = courier.Receiver(sock), confine_children(config, _IN_CELL)
                messages = [(("child", message[2]), ())]
            continue
        pid = fork(kind, sock)
        if pid == 0:
            return child.prepare(message, fds, receiver, sock, config, confinement)
        for fd in fds:
            os.close(fd)
        if pid is None:
            continue
        if cell:
            # As PID 1 of a cell: it is made, and from here on somebody waits for what it says.
            priority.take_turn()
        status, usage = wait(pid)
        cpu = usage.ru_utime + usage.ru_stime
        alone = is_alone() if cell else None
        courier.send(sock, ("exit", status, cpu, time.monotonic(), kind == "child", alone))


def confine_children(config, protected):
    """Confines this process, and so its children; None, and no program ever starts, where that cannot hold."""
    cfg = {
        "network": config["network"],
        "protected_pids": protected,
        "writable": [config["workspace"]] + config["scratch"],
        "fresh": config["place"] == "fresh",
        "require": config["require"],
    }
    try:
        confinement = confine.Confinement(cfg)
        confinement.bequeath()
        return confinement
    except confine.ConfineError:
        return None


def fork(kind, sock):
    """As os.fork; None, and the runner knows, where the sandbox may have no more processes."""
    try:
        return os.fork()
    except OSError as error:
        if kind == "run":
            courier.send(sock, ("failed", error.strerror))
            courier.send(sock, ("exit", 256, 0.0, time.monotonic(), False, True))
        return None


def wait(pid):
    """As PID 1 of a cell this reaps orphans too."""
    while True:
        ended, status, usage = os.wait4(-1, 0)
        if ended == pid:
            return status, usage


def is_alone():
    """No child, of any kind: as PID 1 of a cell, to which every orphan comes, that is nobody else in it."""
    try:
        os.waitpid(-1, os.WNOHANG | _WALL)
    except ChildProcessError:
        return True
    return False


def fork_cell(cell, cell_config, zygote_sock, fds):
    """None here. In the child, which is PID 1 of new namespaces and the runner's child, the socket it has to the runner.

    Modules with threads may want to know of a fork (pthread_atfork), as OpenBLAS does, which waits for ever in the next
    one for threads that a fork unknown to it has lost. If it still has some, a process in between is forked as they
    expect; that costs as much again, and most end theirs at the first ordinary fork: see cell.available.
    """
    uid, gid = os.geteuid(), os.getegid()
    between, trouble = None, None
    try:
        between = os.fork() if len(threads()) > 1 else None
        pid = between or cell.fork(sibling=between is None)
    except Exception as error:
        pid, trouble = 0, error
    if pid:
        if between == 0:
            os._exit(0)
        if between:
            os.waitpid(between, 0)
        os.close(fds[0])
        return None
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fds[0])
    if trouble is None:
        zygote_sock.close()
        try:
            workspace_fd, proc_fd = cell.enter(cell_config, uid, gid)
        except Exception as error:
            courier.send(sock, ("failed", describe(error)))
            os._exit(1)
        courier.send(sock, ("cell",), [workspace_fd, proc_fd])
        os.close(workspace_fd)
        os.close(proc_fd)
        return sock
    courier.send(sock, ("failed", describe(trouble)))
    if between == 0:
        os._exit(1)
    sock.close()
    return None


def prepare(config, cell):
    gc.disable()
    pyrun.claim()
    preloaded, failed = preload(config["preload"])
    if "matplotlib" in sys.modules:
        try:
            __import__("matplotlib.font_manager")
        except Exception as error:
            failed.append(("matplotlib.font_manager", describe(error)))
    child.own_memory = own_memory.find()
    features = confine.features()
    namespaces, reason = cell.available() if cell else (False, "")
    missing = list(features["missing"])
    if cell and not namespaces:
        missing.append(reason)
    left = len(threads()) - 1
    if left:
        missing.append("Preloading left %d threads in the zygote; executions begin without them." % left)
    stacks.warm()
    pyrun.warm()
    for _ in range(REHEARSALS):
        pyrun.rehearse()
    gc.collect()
    gc.freeze()
    return {
        "python": "%d.%d.%d" % sys.version_info[:3],
        "preloaded": preloaded,
        "preload_failed": failed[:MAX_PRELOAD_ERRORS],
        "seccomp": bool(features["seccomp"]),
        "landlock_abi": features["landlock_abi"],
        "namespaces": namespaces,
        "missing": missing,
    }


def threads():
    """The first is this process itself."""
    return [int(name) for name in os.listdir("/proc/self/task")]


def preload(names):
    done, failed = [], []
    for name in names:
        try:
            __import__(name)
            done.append(name)
        except BaseException as error:
            failed.append((name, describe(error)))
    return done, failed


def describe(error):
    return ("%s: %s" % (type(error).__name__, error))[:500]
