"""A tar into a session's workspace. An archive that is damaged or cut short is refused, wherever that shows."""

import os
import shutil
import sys

from podgate_runner import tree
from podgate_runner.session_paths import Refusal, blaming, make_directory, ok, open_directory

_PIECE_BYTES = 1 << 16
_BLOCK_BYTES = 512
_MAGIC_BYTES = 6
# What an archive's first bytes say of it: the module that reads it and checks its sums.
_COMPRESSIONS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "lzma"),
    (b"\x5d\x00\x00\x80", "lzma"),
    (b"\x28\xb5\x2f\xfd", "compression.zstd"),
)


class Damaged(Exception):
    pass


def unpack(root, asked):
    with tree.Made() as made:
        count = take_all(open_or_make(root, asked["path"], made.make))
    yield ok({"entries": count})


def take_all(base):
    """How many entries it had."""
    tarfile = __import__("tarfile")
    count = 0
    try:
        source = Source(sys.stdin.buffer)
        # Not "r|*": that reads no sums, and what is behind the end not at all.
        with tarfile.open(fileobj=source, mode="r|", tarinfo=entry_type(tarfile)) as archive:
            for info in archive:
                take(archive, info, base)
                count += 1
        # The sums stand at the very end.
        while source.read(_PIECE_BYTES):
            pass
    except (tarfile.TarError, Damaged) as error:
        why = "It is damaged or cut short: %s. What was unpacked before that stays, %d entries." % (error, count)
        raise Refusal("bad_archive", why) from None
    return count


class Source:
    """The bytes of a tar, compressed or not, once and in order."""

    def __init__(self, file):
        self._first = file.read(_MAGIC_BYTES)
        self._rest = file
        self._plain = self._raw = Joined(self._first, file)
        for magic, module in _COMPRESSIONS:
            if self._first.startswith(magic):
                try:
                    self._plain = __import__(module, fromlist=["open"]).open(self._raw)
                except ImportError:
                    raise Refusal("bad_archive", "This sandbox's Python reads no %s." % module.split(".")[-1]) from None
                break

    def read(self, size):
        if self._plain is self._raw:
            return self._raw.read(size)
        try:
            return self._plain.read(size)
        except Exception as error:  # Each of them has its own.
            raise Damaged(error) from None


class Joined:
    def __init__(self, first, file):
        self._first = first
        self._file = file

    def read(self, size):
        piece, self._first = self._first[:size], self._first[size:]
        return piece or self._file.read(size)


def entry_type(tarfile):
    class Entry(tarfile.TarInfo):
        """tarfile takes a header that is cut, damaged or absent for the end where it is not the first. The end is a block of
        zeros, and a second where the archive goes on: GNU tar, bsdtar, BusyBox, Python, Go, Node and git archive write both."""

        @classmethod
        def fromtarfile(cls, archive):
            try:
                return super().fromtarfile(archive)
            except tarfile.EOFHeaderError:
                if archive.fileobj.read(_BLOCK_BYTES).strip(b"\0"):
                    raise Damaged("a header is empty") from None
                raise
            except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError):
                raise Damaged("its end is missing") from None
            except (tarfile.HeaderError, ValueError) as error:
                raise Damaged(error) from None

    return Entry


def open_or_make(root, path, make):
    if path not in ("", "."):
        make_directory(root, path, make)
    return open_directory(root, path)


def take(archive, info, base):
    name = info.name.rstrip("/")
    while name.startswith("./"):
        name = name[2:]
    if name in ("", "."):
        return
    with blaming(name):
        names = tree.split(name)
        if info.isdir():
            make_directory(base, name, tree.make_directory)
            return
        fd = tree.open_parent(base, names, tree.make_directory, tree.pass_through)
        try:
            take_into(fd, names[-1], archive, info, base)
        finally:
            os.close(fd)


def take_into(fd, name, archive, info, base):
    if info.isreg():
        take_file(fd, name, archive.extractfile(info), info)
    elif info.issym():
        unlink_file(name, fd)
        os.symlink(os.fsencode(info.linkname), name, dir_fd=fd)
    elif info.islnk():
        with blaming(info.linkname):
            source = tree.split(info.linkname)
            source_fd = tree.open_parent(base, source, None, tree.pass_through)
        unlink_file(name, fd)
        os.link(source[-1], name, src_dir_fd=source_fd, dst_dir_fd=fd, follow_symlinks=False)
        os.close(source_fd)
    else:
        raise Refusal("bad_archive", "It holds what is neither file nor directory nor link: %s" % info.name[:200])


def take_file(fd, name, content, info):
    """Under its name once it is whole: a part under another is removed."""
    part = b".podgate-part-%d" % os.getpid()
    with os.fdopen(tree.create_file(fd, [part]), "wb") as file:
        try:
            shutil.copyfileobj(content, file, _PIECE_BYTES)
            os.fchmod(file.fileno(), info.mode & 0o777)
            file.flush()
            os.utime(file.fileno(), (info.mtime, info.mtime))
            os.rename(part, name, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            os.unlink(part, dir_fd=fd)
            raise


def unlink_file(name, fd):
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
