"""What comes for an execution: its input, until all that was announced is staged, and what may follow."""

from podgate_runner.limits import STREAM_WINDOW_BYTES
from podgate_runner.outbox import Outbox
from podgate_runner.staging import StageError, Staging

# The order in which an execution goes through them.
INPUT, STARTING, RUNNING, DRAINING, COLLECTING, ENDED = range(6)


class Intake:
    """`host` is the runner: its configuration, poller, reaper, control group. `place` comes when one is free. `_start` and
    `fail` are the execution's."""

    staging_type = Staging

    def __init__(self, host, stream_id, request):
        self.host = host
        self.request = request
        self.state = INPUT
        self.outbox = Outbox(stream_id)
        self.place = None
        self._received = 0
        self._window = STREAM_WINDOW_BYTES
        self._waiting = []
        self._staging = None

    def receive(self, offset, data):
        """False when the bytes are out of place: a fault of the stream."""
        if offset != self._received or offset + len(data) > self._window:
            return False
        self._received += len(data)
        if self.state == INPUT:
            self._waiting.append(data)
        else:
            self._take_live(data)
        return True

    def _take_live(self, data):
        """Input beyond what was announced: most programs take none."""

    def end_input(self):
        """No more of that comes."""

    def signal(self, number):
        """To the program: that of a session takes them."""

    def resize(self, rows, columns):
        """Of a terminal: most have none."""

    def resume_input(self):
        """Says on a new stream what there is of it."""

    @property
    def starved(self):
        """Waits for input that is not all here."""
        return self.state == INPUT and self._received < sum(size or 0 for size in self.request["sizes"].values())

    def advance(self):
        """Stages what has come, once there is a place; starts the program when that was all."""
        if self.state != INPUT or self.place is None:
            return
        try:
            if self._staging is None:
                self._staging = self.staging_type(self.request["language"], self.request["sizes"])
            waiting, self._waiting = self._waiting, []
            for data in waiting or [b""]:
                self._staging.feed(data, self.place.workspace_fd)
        except StageError as error:
            self.fail(self.stage_code(error), str(error), "no")
            return
        if self._staging.done:
            self._start()
        elif self._window - self._received <= STREAM_WINDOW_BYTES // 2:
            self._window = self._received + STREAM_WINDOW_BYTES
            self.outbox.window(self._window)

    def stage_code(self, error):
        return "stage_failed"

    def _feed_stdin(self):
        fd = self._staging.stdin.write_fd
        self._staging.stdin.feed()
        if self._staging.stdin.write_fd < 0:
            self.host.poller.forget(fd)

    def _stop_stdin(self):
        if self._staging is not None:
            if self._staging.stdin.write_fd >= 0:
                self.host.poller.forget(self._staging.stdin.write_fd)
            self._staging.close()
