"""The zygote: an interpreter that has imported what user code will want, and forks for every execution.

It runs nothing that a user wrote. Messages to it: ("child",), for the next job; ("run", job) with stdin, stdout, stderr;
("cell", config) with a socket on which the new cell then speaks this same protocol; ("echo",). From it:
("ready", facts), ("started", time, pid), ("exit", status, cpu seconds, time, whether the child was asked for ahead),
("cell",) with descriptors of workspace and /proc, ("failed", sentence), ("echo",).

A child that was asked for ahead makes itself ready and then reads its job from this same socket, while the zygote does
nothing but wait for its end. If it dies before it has read, the zygote finds the job still there and forks for it.
"""

import gc
import os
import sys
import time
import _socket

from podgate_runner import child, confine, courier, harden, pyrun, syscalls
from podgate_runner.limits import MAX_PRELOAD_ERRORS


def serve(config):
    """Returns in a forked child only: what it is to run."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, 3)
    os.set_inheritable(3, False)
    os.setsid()
    harden.harden(b"python3")
    # Cells import this on demand; user code must not be able to bring its own.
    if config["place"] == "fresh":
        from podgate_runner import cell
    else:
        cell = None
    facts = prepare(config, cell)
    confinement = None if cell else confine_children(config, [os.getppid(), os.getpid()])
    courier.send(sock, ("ready", facts))
    return attend(sock, config, cell, confinement)


def attend(sock, config, cell, confinement):
    receiver = courier.Receiver(sock)
    messages = []
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
        pid = fork(kind, sock)
        if pid == 0:
            if kind != "cell":
                return child.prepare(message, fds, receiver, sock, config, confinement)
            sock = enter_cell(cell, message[1], sock, fds)
            receiver, confinement = courier.Receiver(sock), confine_children(config, [1])
            messages = [(("child",), ())]
            continue
        for fd in fds:
            os.close(fd)
        if pid is None:
            continue
        status, usage = wait(pid)
        if kind != "cell":
            cpu = usage.ru_utime + usage.ru_stime
            courier.send(sock, ("exit", status, cpu, time.monotonic(), kind == "child"))


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
        confinement = confine.prepare(cfg)
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
            courier.send(sock, ("exit", 256, 0.0, time.monotonic(), False))
        return None


def wait(pid):
    """As PID 1 of a cell this reaps orphans too."""
    while True:
        ended, status, usage = os.wait4(-1, 0)
        if ended == pid:
            return status, usage


def enter_cell(cell, cell_config, zygote_sock, fds):
    """Becomes PID 1 of new namespaces, with a socket of its own to the runner."""
    zygote_sock.close()
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fds[0])
    try:
        # The maps of a user namespace can be written only by who may look into the process.
        syscalls.set_dumpable(True)
        workspace_fd, proc_fd = cell.enter(cell_config)
        syscalls.set_dumpable(False)
    except Exception as error:
        courier.send(sock, ("failed", "%s: %s" % (type(error).__name__, error)))
        os._exit(1)
    courier.send(sock, ("cell",), [workspace_fd, proc_fd])
    os.close(workspace_fd)
    os.close(proc_fd)
    return sock


def prepare(config, cell):
    gc.disable()
    preloaded, failed = preload(config["preload"])
    if "matplotlib" in sys.modules:
        try:
            __import__("matplotlib.font_manager")
        except Exception as error:
            failed.append(("matplotlib.font_manager", describe(error)))
    features = confine.features()
    namespaces, reason = cell.available() if cell else (False, "")
    missing = list(features["missing"])
    if cell and not namespaces:
        missing.append(reason)
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        missing.append("Preloading left %d threads in the zygote; executions begin without them." % (threads - 1))
    pyrun.warm()
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
