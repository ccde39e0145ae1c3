"""A walk through a tree that user code owns and may change meanwhile: few descriptors however deep it is, no link followed."""

import errno
import os
import stat

from podgate_runner import tree

# Descriptors of the deepest levels. Those above are found again by their names, from the top down.
MAX_HELD = 32
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def gone(error):
    """Somebody took it away, or put something else there, since it was looked at."""
    return error.errno in _GONE


def walk(top, rights):
    """(descriptor, names that lead there, name, what os.stat says) of all below `top`, by name. A directory comes before what
    it holds, and once more behind that, without what os.stat says. Its owner has `rights` in it while the walk is there. What
    goes meanwhile is left out; the walk fails where it does not find a directory again in which it was."""
    place = Place(top, rights)
    try:
        while True:
            name = next(place.rest, None)
            if name is None:
                if not place.names:
                    return
                name = place.leave()
                yield place.fd, place.names, name, None
                continue
            try:
                found = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield place.fd, place.names, name, found
            if stat.S_ISDIR(found.st_mode):
                try:
                    place.enter(name)
                except OSError as error:
                    if not gone(error):
                        raise
    finally:
        place.close()


class Place:
    """Where a walk is."""

    def __init__(self, top, rights):
        self._top = top
        self._rights = rights
        self.names = []
        # As many as names, or MAX_HELD.
        self._held = []
        # Of top and of each level: the mode to give back, and what is still to be looked at.
        self._modes = [stat.S_IMODE(os.fstat(top).st_mode)]
        if self._lacks(self._modes[0]):
            os.fchmod(top, self._modes[0] | rights)
        self._rests = [iter(sorted(os.listdir(top)))]

    @property
    def fd(self):
        return self._held[-1] if self._held else self._top

    @property
    def rest(self):
        return self._rests[-1]

    def _lacks(self, mode):
        return mode & self._rights != self._rights

    def enter(self, name):
        mode = stat.S_IMODE(os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode)
        if self._lacks(mode):
            # chmod follows a link that was put there just now: to a file of whoever put it there.
            os.chmod(name, mode | self._rights, dir_fd=self.fd)
        try:
            fd = tree.enter(name, self.fd)
        except OSError:
            if self._lacks(mode):
                os.chmod(name, mode, dir_fd=self.fd)
            raise
        self._hold(fd)
        self.names.append(name)
        self._modes.append(mode)
        self._rests.append(iter(()))
        self._rests[-1] = iter(sorted(os.listdir(fd)))

    def leave(self):
        """One level up. The name of what was left."""
        fd, mode = self._held.pop(), self._modes.pop()
        self._rests.pop()
        if self._lacks(mode):
            os.fchmod(fd, mode)
        os.close(fd)
        name = self.names.pop()
        if self.names and not self._held:
            self._find()
        return name

    def _find(self):
        fd = self._top
        for name in self.names:
            try:
                fd = tree.enter(name, fd)
            except OSError:
                # Modes above stay: there is no way to what had them.
                self.names = []
                raise
            self._hold(fd)

    def _hold(self, fd):
        self._held.append(fd)
        if len(self._held) > MAX_HELD:
            os.close(self._held.pop(0))

    def close(self):
        """Gives the modes back."""
        try:
            while self.names:
                self.leave()
        finally:
            if self._lacks(self._modes[0]):
                os.fchmod(self._top, self._modes[0])
