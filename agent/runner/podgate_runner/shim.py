"""Run by an exec into the sandbox: hands its stdin and stdout to the runner, then waits for the runner to let go.

Sent as text, so it imports nothing of Podgate's. An exec may be faster than the runner is up: it tries again rather
than cost another exec, and says on stderr when it has found it: on stdout the runner has the first word.
"""

import array
import sys
import time
import _socket
from posix import close as _close

PR_SET_DUMPABLE = 4
PATIENCE_SECONDS = 30
RETRY_SECONDS = 0.01
SO_PASSCRED = 16


def main():
    withdraw()
    try:
        sock = connect(time.monotonic() + PATIENCE_SECONDS)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", (0, 1)))
        sock.sendmsg([b"s"], [rights])
        sys.stderr.write("podgate-shim: there\n")
        sys.stderr.flush()
        # Beside user code nothing keeps what leads to the agent, not even under /proc/<pid>/fd.
        _close(0)
        _close(1)
        sock.recv(1)
    except OSError as error:
        sys.stderr.write("podgate-shim: %s\n" % error.strerror)
        sys.exit(1)


def withdraw():
    """It has the UID of user code, which must neither trace it nor write to its memory: the runner takes it for the agent."""
    import ctypes

    if ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        sys.exit("podgate-shim: prctl failed")


def connect(deadline):
    while True:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            # Without it gVisor tells nobody who sends.
            sock.setsockopt(_socket.SOL_SOCKET, SO_PASSCRED, 1)
            sock.connect(b"\0podgate-runner")
            return sock
        except OSError:
            sock.close()
            if time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_SECONDS)
