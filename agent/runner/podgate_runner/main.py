"""Where a sandbox begins: PID 1 is configured, hardened, and then only listens."""

import os
import signal
import sys


def main(config_json):
    from podgate_runner import config, harden, runner, syscalls

    try:
        settings = config.parse(config_json)
    except ValueError as error:
        sys.stderr.write("podgate-runner: %s\n" % error)
        sys.exit(2)
    for name in settings["foreign_env"]:
        os.environ.pop(name, None)
    environ = dict(os.environ)
    harden.harden(b"podgate-runner")
    if os.getpid() != 1:
        syscalls.set_child_subreaper(True)
    # The default disposition is PID 1's protection: the kernel drops such signals from inside.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.chdir("/")
    os.umask(0o022)
    runner.Runner(settings, environ).run()
    os._exit(0)
