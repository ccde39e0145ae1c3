"""Takes streams from shims, protocol.md 2.2: an exec enters from outside and hands its descriptors over."""

import array
import os
import time
import _socket

from podgate_runner import processes
from podgate_runner.courier import SCM_CREDENTIALS, SO_PASSCRED
from podgate_runner.limits import MAX_PENDING_SHIMS, SHIM_SECONDS

ADDRESS = b"\0podgate-runner"
_CREDENTIALS_BYTES = 12


class Listener:
    """`take(in_fd, out_fd, socket)` is called for every shim that hands a stream over."""

    def __init__(self, poller, proc_root, take):
        self._poller = poller
        self._proc_root = proc_root
        self._take = take
        self._pending = {}
        self._sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._sock.setsockopt(_socket.SOL_SOCKET, SO_PASSCRED, 1)
        self._sock.bind(ADDRESS)
        self._sock.listen(MAX_PENDING_SHIMS)
        self._sock.setblocking(False)
        poller.read(self._sock.fileno(), self._accept)

    def _accept(self):
        try:
            fd, _ = self._sock._accept()
        except OSError:
            return
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS_BYTES)
        peer = _pid(credentials)
        # gVisor answers with whoever asks: there what is sent says whose it is.
        knows_peer = peer != os.getpid()
        if knows_peer and not self._is_from_outside(peer) or len(self._pending) >= MAX_PENDING_SHIMS:
            sock.close()
            return
        # Linux takes this from the listening socket, gVisor does not.
        sock.setsockopt(_socket.SOL_SOCKET, SO_PASSCRED, 1)
        sock.setblocking(False)
        self._pending[fd] = (sock, time.monotonic() + SHIM_SECONDS)
        self._poller.read(fd, lambda: self._receive(fd))

    def _is_from_outside(self, pid):
        """Nothing born in this PID namespace has 0 for a parent, and only PID 1 itself besides what entered."""
        try:
            return pid > 1 and processes.parent_in_status(self._proc_root, pid) == 0
        except (OSError, ValueError):
            return False

    def _receive(self, fd):
        sock, _ = self._pending.pop(fd)
        self._poller.forget(fd)
        fds, sender = array.array("i"), 0
        try:
            room = _socket.CMSG_SPACE(8) + _socket.CMSG_SPACE(_CREDENTIALS_BYTES)
            _, ancillary, _, _ = sock.recvmsg(16, room, _socket.MSG_CMSG_CLOEXEC)
        except OSError:
            ancillary = []
        for level, kind, value in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds.frombytes(value[: len(value) - len(value) % 4])
            elif level == _socket.SOL_SOCKET and kind == SCM_CREDENTIALS:
                sender = _pid(value)
        if len(fds) == 2 and self._is_from_outside(sender):
            self._take(fds[0], fds[1], sock)
            return
        sock.close()
        for number in fds:
            _socket.close(number)

    def tick(self, now):
        """Drops shims that said nothing in time; returns when to look again."""
        for fd, (sock, deadline) in list(self._pending.items()):
            if now >= deadline:
                self._poller.forget(fd)
                del self._pending[fd]
                sock.close()
        return min((deadline for _, deadline in self._pending.values()), default=None)


def _pid(credentials):
    return array.array("i", credentials)[0]
