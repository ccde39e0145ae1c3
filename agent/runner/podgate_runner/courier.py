"""Messages with descriptors between the runner and its zygotes. Both ends are Podgate's own, so marshal is safe."""

import array
import marshal
import sys
import _socket

from podgate_runner.limits import MAX_ZYGOTE_FDS, MAX_ZYGOTE_MESSAGE_BYTES, READ_BYTES

_ANCILLARY_BYTES = _socket.CMSG_SPACE(4 * MAX_ZYGOTE_FDS) + _socket.CMSG_SPACE(12)
SO_PASSCRED = getattr(_socket, "SO_PASSCRED", 16)
SCM_CREDENTIALS = getattr(_socket, "SCM_CREDENTIALS", 2)


def pack(message, fds=0):
    body = marshal.dumps(message)
    return len(body).to_bytes(4, "big") + bytes((fds,)) + body


def send(sock, message, fds=()):
    data = pack(message, len(fds))
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = sock.sendmsg([data], ancillary)
    if sent < len(data):
        sock.sendall(data[sent:])


def rehearse():
    """Sends a message to itself: see pyrun.rehearse."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    send(ours, ("run", {}), [theirs.fileno()])
    for _, fds in Receiver(theirs).read():
        for fd in fds:
            _socket.close(fd)
    ours.close()
    theirs.close()


class Receiver:
    """Reads whole messages. `sender` is the process that wrote last, as this PID namespace counts."""

    def __init__(self, sock):
        self._sock = sock
        self._bytes = b""
        self._fds = []
        self.sender = 0

    @property
    def unfinished(self):
        """Holds a part of a message."""
        return bool(self._bytes)

    def read(self):
        """One recvmsg: messages that it completed, None at the end."""
        data, ancillary, _, _ = self._sock.recvmsg(READ_BYTES, _ANCILLARY_BYTES, _socket.MSG_CMSG_CLOEXEC)
        for level, kind, value in ancillary:
            if level != _socket.SOL_SOCKET:
                continue
            if kind == _socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(value[: len(value) - len(value) % 4])
                self._fds.extend(numbers)
            elif kind == SCM_CREDENTIALS:
                self.sender = int.from_bytes(value[:4], sys.byteorder)
        if not data:
            return None
        self._bytes += data
        messages = []
        while len(self._bytes) >= 5:
            size, count = int.from_bytes(self._bytes[:4], "big"), self._bytes[4]
            if size > MAX_ZYGOTE_MESSAGE_BYTES:
                return None
            if len(self._bytes) < 5 + size:
                break
            body, self._bytes = self._bytes[5 : 5 + size], self._bytes[5 + size :]
            fds, self._fds = self._fds[:count], self._fds[count:]
            messages.append((marshal.loads(body), fds))
        return messages
