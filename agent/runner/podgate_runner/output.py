"""stdout and stderr of the program: read as credit allows, counted past the cap, dropped there."""

import os
import select

from podgate_runner.limits import READ_BYTES
from podgate_runner.outbox import STDERR, STDOUT


class _Pipe:
    def __init__(self, channel):
        self.channel = channel
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.counted = 0
        self.ended = False


class Output:
    def __init__(self, outbox, limits, poller, pipes=None, unheard=None):
        """`unheard` takes the read ends of pipes that are given up and that somebody may write to still."""
        self._outbox = outbox
        self._poller = poller
        self._cap = limits["max_output_bytes"]
        self._kill_at = limits["output_limit_bytes"]
        self.stdout, self.stderr = pipes or (_Pipe(STDOUT), _Pipe(STDERR))
        self._pipes = (self.stdout, self.stderr)
        self._draining = False
        self._unheard = unheard

    def write_ends(self):
        return [pipe.write_fd for pipe in self._pipes]

    def close_write_ends(self):
        for pipe in self._pipes:
            os.close(pipe.write_fd)

    @property
    def ended(self):
        return self.stdout.ended and self.stderr.ended

    @property
    def over_limit(self):
        return self._kill_at is not None and self.stdout.counted + self.stderr.counted > self._kill_at

    def truncated(self, pipe):
        return pipe.counted > self._outbox.sent_on(pipe.channel)

    def held_back(self):
        """Whether a pipe waits for credit and not for the program."""
        return any(not pipe.ended and not self.may_read(pipe) for pipe in self._pipes)

    def pump(self):
        """Listens to the pipes that may be read now, and to no other."""
        for pipe in self._pipes:
            if pipe.ended:
                continue
            listening = self._poller.has(pipe.read_fd)
            if self.may_read(pipe):
                if not listening:
                    self._poller.read(pipe.read_fd, pipe_reader(self, pipe))
                continue
            if listening:
                self._poller.forget(pipe.read_fd)
            if self._draining and _is_over(pipe.read_fd):
                self._end(pipe)

    def may_read(self, pipe):
        return pipe.counted >= self._cap or self._outbox.room() > 0

    def drain(self):
        """Reads what is there until credit or the pipes end: nobody writes any more."""
        self._draining = True
        for pipe in self._pipes:
            while not pipe.ended and self.may_read(pipe) and self.read(pipe):
                pass

    def read(self, pipe):
        """One read. False when there was nothing."""
        dropping = pipe.counted >= self._cap
        try:
            data = self._take(pipe.read_fd, READ_BYTES if dropping else min(READ_BYTES, max(self._outbox.room(), 1)))
        except BlockingIOError:
            return False
        if not data:
            self._end(pipe)
            return True
        if not dropping:
            self._outbox.data(pipe.channel, data[: self._cap - pipe.counted])
        pipe.counted += len(data)
        return True

    _take = staticmethod(os.read)

    def _end(self, pipe):
        pipe.ended = True
        self._poller.forget(pipe.read_fd)
        os.close(pipe.read_fd)

    def give_up(self):
        """Counts what still lies in the pipes and closes them."""
        for pipe in self._pipes:
            if pipe.ended:
                continue
            try:
                while True:
                    data = self._take(pipe.read_fd, READ_BYTES)
                    if not data:
                        break
                    pipe.counted += len(data)
            except BlockingIOError:
                if self._unheard is not None:
                    pipe.ended = True
                    self._unheard.take(pipe.read_fd)
                    continue
            self._end(pipe)


def _is_over(fd):
    """Empty and without a writer: a reader whose last credit went to the last byte owes none for the end."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(not events & select.POLLIN for _, events in poll.poll(0))


def pipe_reader(output, pipe):
    def read():
        # The other pipe, ready in the same turn, may have taken the last of the credit.
        if not pipe.ended and output.may_read(pipe):
            output.read(pipe)

    return read
