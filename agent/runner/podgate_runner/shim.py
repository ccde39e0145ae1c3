"""Run by an exec into the sandbox: hands its stdin and stdout to the runner, then waits for the runner to let go.

Sent as text, so it imports nothing of Podgate's.
"""

import array
import sys
import _socket


def main():
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(b"\0podgate-runner")
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", (0, 1)))
        sock.sendmsg([b"s"], [rights])
        sock.recv(1)
    except OSError as error:
        sys.stderr.write("podgate-shim: %s\n" % error.strerror)
        sys.exit(1)
