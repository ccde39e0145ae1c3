"""Keeps a place ready for the next execution: a warm zygote, and below `fresh` one cell ahead."""

import os
import time

from podgate_runner import environment, zygote_link
from podgate_runner.cell_maker import CellMaker
from podgate_runner.limits import ANSWER_FIRST_SECONDS, READ_BYTES, ZYGOTE_READY_SECONDS, ZYGOTE_RESPAWNS
from podgate_runner.place import SharedPlace


class Supply:
    """`host` is the runner. `place` is for the next execution; `facts` is what the zygote found; `trouble` says why there
    will never be a place."""

    def __init__(self, host, environ):
        self._host = host
        self._fresh = host.config["place"] == "fresh"
        config = host.config
        self.environ = environment.without_places([config["workspace"]] + config["scratch"], environ)
        self._zygote = None
        self._cells = CellMaker(host, self)
        self.place = None
        self._respawns = 0
        self._noise_fd = -1
        self._fallen = False
        self._warming = True
        self.facts = None
        self.trouble = None
        # When the zygote must be ready.
        self._ready_by = None
        # Cells in which a program ran and nobody lives, and when they go and the next execution is made ready for.
        self._spent = []
        self._later = None

    @property
    def due(self):
        dues = (self._ready_by, self._cells.due, self._later)
        return min((at for at in dues if at is not None), default=None)

    @property
    def settled(self):
        """Whether the place that executions share is there, and nobody's: or there is none."""
        shared = not self._fresh and not self.trouble
        return not shared or (self.place is not None and not self.place.leaving)

    def begin(self):
        self._warming = True
        try:
            self._zygote = self._spawn()
        except OSError as error:
            self._give_up("The zygote could not be started: %s." % error.strerror)
            return
        self._host.reaper.own.add(self._zygote.pid)
        self._host.poller.read(self._noise_fd, self._drop_noise)
        self._host.poller.read(self._zygote.fileno(), self._hear_zygote)
        self._ready_by = time.monotonic() + ZYGOTE_READY_SECONDS

    def _spawn(self):
        self._noise_fd, write_fd = os.pipe()
        wanted = ("preload", "place", "network", "workspace", "scratch", "require")
        settings = {name: self._host.config[name] for name in wanted}
        try:
            return zygote_link.spawn(settings, self.environ, write_fd)
        finally:
            os.close(write_fd)

    def take(self):
        """The place for an execution, or None; a cell is then its own alone."""
        place = self.place
        if place is None:
            self.catch_up(awaited=True)
        elif not place.keeps_files:
            self.place = None
        return place

    def put_off(self):
        """The processors are the program's, or its answer's."""
        self._later = time.monotonic() + ANSWER_FIRST_SECONDS

    def catch_up(self, awaited=False):
        """Does what was put off."""
        self._later = None
        for place in self._spent:
            place.close()
        self._spent.clear()
        self.next_cell(awaited)

    def finish(self, place):
        """After an execution that left nobody alive."""
        if place is None or place.keeps_files or not place.empty:
            self.release(place)
            self.next_child()
        else:
            self._forget(place.link)
            self._spent.append(place)
            self.put_off()

    def release(self, place):
        """Nobody has it any more. A cell served once; a zygote that died while it ran is replaced now."""
        if place is not None and not place.keeps_files:
            self._forget(place.link)
            place.close()
            if self.place is place:
                self.place = None
        if self._fallen:
            self._fallen = False
            self._replace_zygote()
        else:
            self.next_cell()

    def next_cell(self, awaited=False):
        """One cell is ready or being made, also while another is in use: nothing in either can reach the other."""
        lacking = self.place is None and not self._cells.busy
        if self._fresh and lacking and not (self._warming or self._fallen or self.trouble):
            self._cells.begin(self._zygote, awaited)

    def next_child(self):
        """Has the zygote fork for the execution after this one, so that a START finds all done but the job itself.

        Only between executions: with nothing of the user's alive nobody can signal, limit or trace the one that waits.
        """
        place = self.place
        if place is None or not place.keeps_files or place.waiting or self._warming or self.trouble:
            return
        try:
            place.link.send(("child", False))
            place.waiting = True
        except OSError:
            pass

    def heed_children(self):
        """A zygote that ended has nobody wait for its child, and the child keeps their socket open: it ends too."""
        place = self.place
        if place is not None and place.keeps_files and place.waiting and self._zygote.pid not in self._host.reaper.own:
            place.kill()
            self._lose_zygote()

    def tick(self, now):
        if self._later is not None and now >= self._later:
            self.catch_up()
        if self._ready_by is not None and now >= self._ready_by:
            self._give_up("The zygote was not ready in time.")
        if self._cells.tick(now) and self.place is None:
            self._give_up("Fresh namespaces were not ready in time.")

    def close(self):
        for place in self._spent:
            place.kill()
        if self.place is not None:
            self.place.kill()
        if self._zygote is not None:
            self._zygote.close()

    def _hear_zygote(self):
        messages = self._zygote.read()
        if messages is None:
            self._lose_zygote()
            return
        for message, _ in messages:
            if message[0] == "ready":
                self._zygote_ready(message[1])
            elif message[0] == "exit" and self.place is not None and self.place.leaving:
                # Its execution said EXIT before: what was left to do was the kernel's.
                self.place.leaving = 0
                self._host.on_supply()
            else:
                self._host.on_message(message, self._zygote.sender)

    def _zygote_ready(self, facts):
        self._ready_by, self._warming = None, False
        again = self.facts is not None
        self.facts = facts
        if again:
            facts["missing"].append("The zygote died and was started again.")
        self._host.measure(self._zygote.pid)
        if self._fresh:
            if not facts["namespaces"]:
                self._give_up(facts["missing"][-1])
            else:
                self.next_cell()
        else:
            if self.place is not None:
                self.place.close()
            self.place = SharedPlace(self._host.config, self._zygote, self._host.reaper)
            self.next_child()
        self._host.on_supply()

    # What the maker of cells tells

    def made(self, cell):
        self.place = cell
        self._host.on_supply()

    def unmade(self, why, last):
        if last:
            self._give_up(why)
        elif not self._warming:
            # While a new zygote warms up it is that one's to make the next.
            self._cells.begin(self._zygote)

    def cell_gone(self, link):
        if not self._host.on_link_gone(link) and self.place is not None and self.place.link is link:
            self.release(self.place)

    def _forget(self, link):
        self._host.poller.forget(link.fileno())

    def _lose_zygote(self):
        self._forget(self._zygote)
        if self.facts is None:
            self._give_up("The zygote ended before it was ready.")
            return
        self._fallen = True
        if self.place is not None and self.place.keeps_files:
            self.place.waiting = False
            self.place.leaving = 0
        if not self._host.on_link_gone(self._zygote):
            self.release(None)

    def _replace_zygote(self):
        self._zygote.close()
        self._host.poller.forget(self._noise_fd)
        os.close(self._noise_fd)
        if self._respawns >= ZYGOTE_RESPAWNS:
            self._give_up("The zygote died more than once.")
            return
        self._respawns += 1
        if self.place is not None and self.place.keeps_files:
            # What the next one imports may read what a program left below HOME.
            leftovers = self._host.restore(self.place)
            self.place.close()
            self.place = None
            if leftovers:
                self._give_up("What was left when the zygote died stays: %s." % ", ".join(leftovers))
                return
        self.begin()

    def _give_up(self, sentence):
        self.trouble = self.trouble or sentence
        self._ready_by = None
        self._host.on_supply()

    def _drop_noise(self):
        """What modules print while they are imported is nobody's output."""
        if not os.read(self._noise_fd, READ_BYTES):
            self._host.poller.forget(self._noise_fd)
