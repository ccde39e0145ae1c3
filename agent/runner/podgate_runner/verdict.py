"""How an execution ended, from what was seen and what was done to it. No guesses."""

import os
import signal


def judge(status, killed_for, cpu_seconds, cpu_limit, oom_killed):
    """(outcome, exit code, signal) from a wait status. A program that ended by itself before our kill met it, ended."""
    if os.WIFEXITED(status):
        return "exited", os.WEXITSTATUS(status), None
    number = os.WTERMSIG(status)
    code = 128 + number
    if killed_for in ("timed_out", "cancelled") and number == signal.SIGKILL:
        return killed_for, None, number
    if killed_for == "cpu_limit" and number in (signal.SIGKILL, signal.SIGXCPU):
        return killed_for, code, number
    if killed_for and number == signal.SIGKILL:
        return killed_for, code, number
    # RLIMIT_CPU counts ticks of the clock: on a busy machine it may strike well before what is accounted in the end.
    if number == signal.SIGXCPU and cpu_seconds >= 0.5 * cpu_limit:
        return "cpu_limit", code, number
    if number == signal.SIGKILL and cpu_seconds >= cpu_limit:
        return "cpu_limit", code, number
    if number == signal.SIGKILL and oom_killed:
        return "memory_limit", code, number
    return "signaled", code, number
