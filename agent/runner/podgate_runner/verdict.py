"""How an execution ended, from what was seen and what was done to it. No guesses."""

import os
import signal


def judge(status, killed_for, cpu_seconds, cpu_limit, oom_killed):
    """(outcome, exit code, signal) from a wait status; `oom_killed` is called where it matters. A program that ended by
    itself before our kill met it, ended."""
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
    if number == signal.SIGKILL and oom_killed():
        return "memory_limit", code, number
    return "signaled", code, number


def verdict_body(verdict, times, peak_bytes, output, collector):
    """EXIT's result. `times` are seconds by the wall clock and of the processors; no collector: no files were asked for."""
    outcome, exit_code, number = verdict
    return {
        "outcome": outcome,
        "exit_code": exit_code,
        "signal": number,
        "timed_out": outcome == "timed_out",
        "duration_ms": round(times[0] * 1000),
        "cpu_ms": round(times[1] * 1000),
        "peak_memory_bytes": peak_bytes,
        "stdout_bytes": output.stdout.counted,
        "stderr_bytes": output.stderr.counted,
        "stdout_truncated": output.truncated(output.stdout),
        "stderr_truncated": output.truncated(output.stderr),
        "files_omitted": collector.omitted if collector else [],
        "files_omitted_count": collector.omitted_count if collector else 0,
    }
