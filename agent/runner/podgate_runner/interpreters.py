"""Finds bash and node by running them: a name on PATH may be a shim that this UID cannot run."""

import os
import select
import signal
import time

from podgate_runner.limits import PROBE_SECONDS

_FALLBACK_PATH = "/usr/local/bin:/usr/bin:/bin"


def find(name, environ):
    """(path, version) of the first that runs, or None."""
    seen = set()
    for folder in (environ.get("PATH", "") + ":" + _FALLBACK_PATH).split(":"):
        path = folder + "/" + name
        if not folder.startswith("/") or path in seen or not os.access(path, os.X_OK):
            continue
        seen.add(path)
        text = _ask(path, environ)
        if text is not None:
            return path, _version(text)
    return None


def _version(text):
    for word in text.split():
        digits = word.lstrip("v").split("(")[0]
        if digits[:1].isdigit() and "." in digits:
            return digits[:64]
    return "unknown"


def _ask(path, environ):
    """What `--version` prints; None when it does not run."""
    read_fd, write_fd = os.pipe()
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    moves = [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in ((nothing, 0), (write_fd, 1), (nothing, 2))]
    try:
        pid = os.posix_spawn(path, [path, "--version"], environ, file_actions=moves, setsigmask=[])
    except OSError:
        os.close(read_fd)
        return None
    finally:
        os.close(write_fd)
        os.close(nothing)
    text = _read_until(read_fd, time.monotonic() + PROBE_SECONDS)
    os.close(read_fd)
    if text is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return text if text and status == 0 else None


def _read_until(fd, deadline):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    text = b""
    while len(text) < 4096:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return None
        piece = os.read(fd, 4096)
        if not piece:
            break
        text += piece
    return text.decode("utf-8", "replace")
