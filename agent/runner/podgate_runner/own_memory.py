"""Memory that what is preloaded shares with all that is forked, as the locks of multiprocessing and an anonymous `mmap` are:
each program has its own of it, as the zygote has it, or one would find what another did there."""

import ctypes
import marshal
import os

_PROTECTIONS = {"r": 1, "w": 2, "x": 4}
_MAP_SHARED, _MAP_FIXED = 0x01, 0x10
# What else is below /dev is a device's memory, of which there is no copy.
_FILES_IN_DEV = ("/dev/zero", "/dev/shm/")

# Of each file that is mapped, where it is: address, size, protection, offset.
_shared = []
_libc = None


def find():
    """In the zygote, when all is preloaded: what gives each child its own, or None where nothing is shared. A child reads:
    what that allocates would spread the zygote's over more pages."""
    global _shared, _libc
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with os.fdopen(writing, "wb") as found:
                found.write(marshal.dumps(_listed()))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as found:
        _shared = marshal.loads(found.read())
    os.waitpid(pid, 0)
    if not _shared:
        return None
    _libc = ctypes.CDLL(None, use_errno=True)
    _libc.mmap.restype, _libc.pwrite.restype = ctypes.c_void_p, ctypes.c_ssize_t
    _libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    _libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64]
    return _take


def _listed():
    # By device and inode: one file may be in several places.
    places, header = {}, ()
    if not os.path.exists("/proc/self/smaps"):
        return []  # A kernel that is built without tells nobody.
    with open("/proc/self/smaps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            words = line.split(None, 5)
            if not words[0].endswith(":"):
                header = words
            elif words[0] == "VmFlags:" and "sh" in line.split() and not _is_device(header[5:]):
                first, end = (int(part, 16) for part in header[0].split("-"))
                protection = sum(_PROTECTIONS.get(letter, 0) for letter in header[1])
                place = (first, end - first, protection, int(header[2], 16))
                places.setdefault((header[3], header[4]), []).append(place)
    return list(places.values())


def _is_device(path):
    return any(name.startswith("/dev/") and not name.startswith(_FILES_IN_DEV) for name in path)


def _take():
    """In a child that has no threads."""
    for places in _shared:
        fd = os.memfd_create("own")
        try:
            os.ftruncate(fd, max(offset + size for _, size, _, offset in places))
            for address, size, _, offset in places:
                _copy(fd, address, size, offset)
            for address, size, protection, offset in places:
                if _libc.mmap(address, size, protection, _MAP_SHARED | _MAP_FIXED, fd, offset) != address:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(fd)


def _copy(fd, address, size, offset):
    """As far as it can be read: what is mapped behind the end of a file cannot."""
    done = 0
    while done < size:
        count = _libc.pwrite(fd, address + done, size - done, offset + done)
        if count <= 0:
            return
        done += count
