"""Makes cells ahead of the executions that will have them, one at a time."""

import os
import time

from podgate_runner import zygote_link
from podgate_runner.limits import CELL_ATTEMPTS, CELL_READY_SECONDS
from podgate_runner.place import Cell

_SETTINGS = ("workspace", "scratch", "workspace_bytes", "tmp_bytes")


class CellMaker:
    """For `supply`, which is told of a cell that is `made`, of one that is `unmade` and why, and `hear`s what those say that
    were made."""

    def __init__(self, host, supply):
        self._host = host
        self._supply = supply
        self._settings = {name: host.config[name] for name in _SETTINGS}
        # To the cell that is being made.
        self._link = None
        self._failures = 0
        # When it must be ready.
        self.due = None

    @property
    def busy(self):
        return self._link is not None

    def begin(self, zygote, awaited=False):
        """`awaited`: an execution is there that has no place."""
        ours, theirs = zygote_link.pair()
        self._link = link = zygote_link.Link(ours, 0)
        self.due = time.monotonic() + CELL_READY_SECONDS
        try:
            zygote.send(("cell", self._settings, awaited), [theirs.fileno()])
        except OSError:
            pass
        theirs.close()
        self._host.poller.read(ours.fileno(), lambda: self._hear(link))

    def tick(self, now):
        """True, once, where one was not ready in time."""
        late = self.due is not None and now >= self.due
        if late:
            self.due = None
        return late

    def _hear(self, link):
        messages = link.read()
        if messages is None and link is self._link:
            self._lose("The process that makes them ended.")
            return
        if messages is None:
            self._host.poller.forget(link.fileno())
            self._supply.cell_gone(link)
            return
        for message, fds in messages:
            if link is not self._link:
                self._host.on_message(message, link.sender)
            elif message[0] == "cell":
                try:
                    cell = Cell(link, link.sender, fds[0], fds[1], self._host.reaper)
                except OSError as error:
                    # It is buried already: another's end has the reaper look before this is heard.
                    os.close(fds[0])
                    os.close(fds[1])
                    self._lose(error.strerror)
                    return
                self._link, self.due, self._failures = None, None, 0
                self._supply.made(cell)
            else:
                self._lose(message[1])
                return

    def _lose(self, why):
        self._host.poller.forget(self._link.fileno())
        self._link.close()
        self._link = None
        self.due = None
        self._failures += 1
        self._supply.unmade("Fresh namespaces could not be made: %s" % why, self._failures >= CELL_ATTEMPTS)
