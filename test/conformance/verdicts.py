"""Runs test modules of CPython and writes one verdict for each test case to verdicts.json.

The same program runs through Podgate and directly; only the verdicts are compared. Arguments: names of modules.
"""

import importlib
import json
import os
import sys
import time
import traceback
import unittest

import test
from test import support

# What the interpreter's own package of tests lacks.
MORE = os.path.join(os.getcwd(), "more")
test.__path__.append(os.path.join(MORE, "test"))

# What does not reach outside and is no benchmark.
support.use_resources = ["cpu", "decimal", "subprocess"]
REASON_CHARS = 2000


class Verdicts(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.found = {}
        self.seconds = {}

    def startTest(self, test):
        super().startTest(test)
        self.children = started_processes()
        self.began = time.monotonic()
        self.found[test.id()] = {"verdict": "ok"}

    def stopTest(self, test):
        super().stopTest(test)
        self.seconds[test.id()] = time.monotonic() - self.began
        if self.found[test.id()]["verdict"] in ("failed", "error"):
            # What a failed case leaves behind holds pipes that the module's own end waits for.
            for child in started_processes() - self.children:
                child.kill()
                child.join()

    def _note(self, test, verdict, reason=""):
        known = self.found.get(test.id(), {"verdict": "ok"})
        # The worst of its subtests is a test's verdict, the first reason its reason.
        order = ["ok", "expected failure", "skipped", "unexpected success", "failed", "error"]
        if order.index(verdict) >= order.index(known["verdict"]):
            reason = known.get("reason") if known["verdict"] == verdict else reason
            self.found[test.id()] = {"verdict": verdict, "reason": str(reason)[-REASON_CHARS:]}

    def addError(self, test, err):
        self._note(test, "error", "".join(traceback.format_exception(*err)))

    def addFailure(self, test, err):
        self._note(test, "failed", "".join(traceback.format_exception(*err)))

    def addSkip(self, test, reason):
        self._note(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        self._note(test, "expected failure")

    def addUnexpectedSuccess(self, test):
        self._note(test, "unexpected success")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            failed = issubclass(err[0], test.failureException)
            reason = "%s: %s" % (subtest, "".join(traceback.format_exception(*err)))
            self._note(test, "failed" if failed else "error", reason)


def started_processes():
    """Those of multiprocessing, looked at without its own tidying."""
    process = sys.modules.get("multiprocessing.process")
    return set(process._children) if process else set()


def run(name, verdicts):
    module = importlib.import_module("test." + name)
    if module.__file__.startswith(MORE):
        support.STDLIB_DIR = MORE  # where a package of tests begins to look for its modules
    if hasattr(module, "test_main"):  # prepares what its cases need, and hands its suite over
        support._run_suite = lambda suite: suite.run(verdicts)
        module.test_main()
    else:
        unittest.defaultTestLoader.loadTestsFromModule(module).run(verdicts)


def main():
    home = os.getcwd()
    verdicts = Verdicts()
    seconds = {}
    for name in sys.argv[1:]:
        began = time.monotonic()
        try:
            run(name, verdicts)
        except unittest.SkipTest as reason:
            verdicts.found["test." + name] = {"verdict": "skipped", "reason": str(reason)}
        except ModuleNotFoundError as error:
            if error.name != "test." + name:
                raise
            verdicts.found["test." + name] = {"verdict": "absent", "reason": "this interpreter's tests have no such module"}
        seconds[name] = round(time.monotonic() - began, 2)
        os.chdir(home)
    slowest = sorted(verdicts.seconds.items(), key=lambda item: -item[1])[:10]
    with open("verdicts.json", "w") as file:
        json.dump({"python": sys.version, "seconds": seconds, "slowest": slowest, "tests": verdicts.found}, file)


if __name__ == "__main__":
    main()
