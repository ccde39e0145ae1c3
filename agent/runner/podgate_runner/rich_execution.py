"""A Python program whose results are wanted too: its last value, its figures, its error (protocol 4.9)."""

import os

from podgate_runner import zygote_link
from podgate_runner.execution import Execution
from podgate_runner.results_out import ResultsOut

# Modules that only such programs need: they come with the job, so that no other program's interpreter has them.
_MODULES = ("session_results", "representations", "notebook_calls", "rich_python")
_BOOT = """
def load(name):
    module = type(sys)(name)
    exec(job["modules"][name], module.__dict__)
    return module
import sys
results, representations, calls = load("session_results"), load("representations"), load("notebook_calls")
load("rich_python").run(job, fds[0], pyrun, results, representations, calls)
"""


def _compiled():
    """What a job brings, compiled once: zygotes are of the same interpreter."""
    sources = zygote_link.sources()
    paths = {name: "podgate_runner." + name for name in _MODULES}
    modules = {name: compile(sources[path], "<%s>" % path, "exec", 0, True) for name, path in paths.items()}
    return {"boot": compile(_BOOT, "<string>", "exec", 0, True), "modules": modules}


_CODE = _compiled()


class RichExecution(Execution):
    def __init__(self, host, stream_id, request):
        super().__init__(host, stream_id, request)
        self._results_fd = -1

    def _job(self):
        described, _ = super()._job()
        self._results_fd = os.memfd_create("results")
        return dict(described, **_CODE), [self._results_fd]

    def _collect(self):
        files = super()._collect()
        return files and RichOut(ResultsOut(self.outbox, self._results_fd), files)

    def _close(self, body):
        super()._close(body)
        if self._results_fd >= 0:
            os.close(self._results_fd)
            self._results_fd = -1


class RichOut:
    """The results, then the files."""

    def __init__(self, results, files):
        self._results = results
        self._files = files

    @property
    def collector(self):
        return self._files.collector

    @property
    def walking(self):
        return self._results is None and self._files.walking

    def pump(self):
        if self._results is not None:
            if not self._results.pump():
                return False
            self._results = None
        return self._files.pump()

    def close(self):
        self._files.close()
