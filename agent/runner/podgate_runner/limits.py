"""Every bound of the runner, with the unit in its name."""

RUNNER_VERSION = "1"
PROTOCOL_VERSION = 1

MAX_DATA_BYTES = 32768
MAX_CONTROL_BYTES = 65536
STREAM_WINDOW_BYTES = 262144
MAX_STREAM_ID = 0xFFFFFFFF
# Without those of real time.
MAX_SIGNAL = 31

READ_BYTES = 65536
# Output waits in the program's pipe, not here, while this much has not left for the agent.
OUT_QUEUE_HIGH_BYTES = 262144
MAX_IOVECS = 512

MAX_MANIFEST_BYTES = 8 << 20
MAX_CODE_BYTES = 64 << 20
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_PATH_DEPTH = 256
# stdin up to here is held in memory until the program starts; the rest in an unlinked file of the workspace.
STDIN_MEMORY_BYTES = 1 << 20

ZYGOTE_READY_SECONDS = 120
ZYGOTE_RESPAWNS = 1
ZYGOTE_SEND_SECONDS = 5
MAX_ZYGOTE_MESSAGE_BYTES = 16 << 20
MAX_ZYGOTE_FDS = 8
CELL_READY_SECONDS = 10
CELL_ATTEMPTS = 3
# What makes ready for the next execution waits so long after a program began, and after its EXIT: it would take the
# processors on which the answer is on its way, and for a short program that is most of the time.
ANSWER_FIRST_SECONDS = 0.003
START_SECONDS = 10
OPEN_SECONDS = 25
PROBE_SECONDS = 10
SHIM_SECONDS = 5
MAX_PENDING_SHIMS = 4

KILL_SECONDS = 5
KILL_FREEZE_ROUNDS = 64
DRAIN_SECONDS = 2
# A program that has closed its output is looked at so often, so far apart: it may be a few instructions before its end.
DEPARTURE_LOOKS = 5
DEPARTURE_PAUSE_SECONDS = 0.00003
CPU_GRACE_SECONDS = 1
# Stacks and shared pages of a program whose heap has met its limit.
MEMORY_SLACK_BYTES = 8 << 20
# Memory over the limit is looked at again this soon, and acted on when so many looks in a row agree.
WATCH_AGAIN_SECONDS = 0.002
WATCH_CONFIRM_LOOKS = 6
WATCH_FIRST_SECONDS = 0.010
WATCH_LAST_SECONDS = 0.100
WATCH_GROWTH = 1.6
# What a tmpfs takes for each file, empty or not: inode and name.
TMPFS_FILE_BYTES = 1024
# So many files are no danger, however small their tmpfs.
MIN_TMPFS_FILES = 1024

SPARSE_MIN_BYTES = 1 << 20
SPARSE_RATIO = 16
MAX_OMITTED = 100
MAX_OMITTED_BYTES = 32768
# Files whose state is remembered so that unchanged ones need no digest.
MAX_KNOWN_FILES = 20000
WALK_STEP_ENTRIES = 2000
LARGE_DIGEST_BYTES = 1 << 20
# A change within one tick of the kernel's clock may leave no trace in a file's times.
CLOCK_TICK_NS = 20000000

# Of a Python thread, unless the program says otherwise: whole stacks count in RLIMIT_DATA, and of the usual 8 MiB a limit of
# 256 MiB has room for 30. A recursion to Python's own limit fits, but for one through sort.
THREAD_STACK_BYTES = 2 << 20
# Of all stacks of a Python program that says otherwise: they are no part of its data limit up to here, but for what is used.
MAX_LARGE_STACKS_BYTES = 1 << 30

# Pieces of work that one session has under way at once.
MAX_SESSION_WORK = 16
MAX_SESSION_SECONDS = 90000
# Rows or columns of a terminal.
MAX_TERMINAL_SIDE = 4096
# Interpreters that one session keeps.
MAX_CONTEXTS = 8
# Pipes that what they have left running writes to.
MAX_UNHEARD_PIPES = 64
# From an interrupt to the kill: less than the agent waits for a runner that is silent.
INTERRUPT_SECONDS = 1
# Of the processes that a sandbox may have: an interpreter that has more than that at its interrupt is ended at once.
CROWD_SHARE = 0.5
# Who watches over a program and was told to end it has so long, or is ended with it: less than KILL_SECONDS.
WARDEN_SECONDS = 2
# What an interrupted piece of code had started is ended in this time, or its interpreter with it.
SWEEP_SECONDS = 2
MAX_CONTEXT_LINE_BYTES = 4096
MAX_RESULTS_BYTES = 8 << 20

MAX_LEFTOVERS = 50
# A reset waits so long for the room of files that only sockets held, and looks so often.
FREE_SECONDS = 2
# The same for sockets, which may be a neighbour's.
CYCLES_SECONDS = 0.2
FREE_PAUSE_SECONDS = 0.001
MAX_PRELOAD_ERRORS = 64
MAX_DETAIL_CHARS = 1000
MAX_TRACE_CHARS = 128
# A child that was forked ahead and took so many times their processor time for its first steps rehearses later.
CROWDED = 2
REHEARSE_LATER_SECONDS = 0.03
