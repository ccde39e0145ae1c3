"""The runner's end of a session's keeper: how it begins, and what it says."""

import os

from podgate_runner import zygote_link

_BOOT = zygote_link.FINDER + """
def boot(job):
    finder = Modules(job["sources"])
    sys.meta_path.insert(0, finder)
    from podgate_runner import session_keeper
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "podgate_runner"]: del sys.modules[name]
    session_keeper.main(job["settings"])
boot(job)
"""


class KeeperLink:
    """`heard` is called with each message and its descriptors, `lost` with a sentence when nothing more will come."""

    def __init__(self, poller, heard, lost):
        self.ready = False
        self._poller = poller
        self._heard = heard
        self._lost = lost
        self._link = None

    def begin(self, place, settings):
        """Has the zygote of `place` become one."""
        ours, theirs = zygote_link.pair()
        self._link = zygote_link.Link(ours, 0)
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        place.waiting = False
        self._poller.read(ours.fileno(), self._hear)
        # It takes of the sources what it needs, and forgets the rest.
        job = {"boot": _BOOT, "sources": zygote_link.sources(), "settings": settings}
        job.update({"env": {}, "rlimits": [], "program": None})
        try:
            place.link.send(("run", job), [theirs.fileno(), nothing, nothing])
        except OSError:
            self._lost("The process that starts programs did not answer.")
        finally:
            theirs.close()
            os.close(nothing)

    def send(self, message, fds=()):
        self._link.send(message, fds)

    def close(self):
        self._poller.forget(self._link.fileno())
        self._link.close()

    def _hear(self):
        messages = self._link.read()
        if messages is None:
            self._lost("The process that starts the session's programs ended.")
            return
        for message, fds in messages:
            if message[0] == "ready":
                self.ready = True
            self._heard(message, fds)
