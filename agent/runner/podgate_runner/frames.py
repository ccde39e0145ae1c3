"""Frames of protocol.md section 1: bytes in, frames out, nothing kept but the unfinished one."""

import struct

from podgate_runner.limits import MAX_CONTROL_BYTES, MAX_DATA_BYTES, PROTOCOL_VERSION

START = 0x10
STARTED = 0x13
DATA = 0x14
END = 0x15
WINDOW = 0x16
CANCEL = 0x17
EXIT = 0x18
REPLAY_GAP = 0x22
SIGNAL = 0x27
RESIZE = 0x28
ATTACH_RUNNER = 0x40
READY = 0x41
PING = 0x42
PONG = 0x43
RESET = 0x44
RESET_DONE = 0x45

_HEAD = struct.Struct("!IIBBBBIQ")
HEAD_BYTES = _HEAD.size


class FrameError(Exception):
    pass


def head(length, epoch, kind, channel, stream, sequence):
    return _HEAD.pack(length, epoch, PROTOCOL_VERSION, kind, 0, channel, stream, sequence)


class FrameReader:
    def __init__(self):
        self._rest = b""

    def push(self, chunk):
        """All frames that `chunk` completes, as (epoch, kind, channel, stream, sequence, body)."""
        data = self._rest + chunk if self._rest else chunk
        at, size, frames = 0, len(data), []
        while size - at >= HEAD_BYTES:
            length, epoch, version, kind, flags, channel, stream, sequence = _HEAD.unpack_from(data, at)
            if version != PROTOCOL_VERSION or flags or sequence >> 53:
                raise FrameError("a header broke the protocol")
            if length > (MAX_DATA_BYTES if kind == DATA else MAX_CONTROL_BYTES) or (kind == DATA and not length):
                raise FrameError("a body has a size out of bounds")
            end = at + HEAD_BYTES + length
            if end > size:
                break
            frames.append((epoch, kind, channel, stream, sequence, data[at + HEAD_BYTES : end]))
            at = end
        self._rest = data[at:]
        return frames
