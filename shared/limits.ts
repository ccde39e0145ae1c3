/** Bounds that more than one side knows; those of shared/protocol.md section 12 under the same names. */
export const MAX_MESSAGE_BYTES = 1_048_576;
/** WebSocket frames of one message: each may keep the 64 KiB alive that a socket read it with, whatever it holds. */
export const MAX_MESSAGE_FRAGMENTS = 16;
/** Pieces in which one WebSocket frame may come: each is an object, however small. */
export const MAX_MESSAGE_CHUNKS = 2_048;
export const MAX_HELLO_BYTES = 16_384;
export const MAX_DATA_BYTES = 32_768;
/** Of one control frame, START among them. */
export const MAX_CONTROL_BYTES = 65_536;
/** Control frames that wait for a peer which does not read, and their bodies, before its link is closed. */
export const MAX_CONTROL_WAITING = 10_000;
export const MAX_CONTROL_WAITING_BYTES = 16_777_216;
export const STREAM_WINDOW_BYTES = 262_144;
export const LINK_WINDOW_BYTES = 8_388_608;
export const LINK_IN_FLIGHT_BYTES = 131_072;
export const LINK_ACK_BYTES = 32_768;
export const HELLO_TIMEOUT_MS = 5_000;
export const HEARTBEAT_MS = 10_000;
export const DEAD_MS = 25_000;
export const READER_STALL_MS = 15_000;
export const LINKS_PER_REPLICA = 2;
export const REPLAY_BYTES = 1_048_576;
export const ORPHAN_MS = 30_000;
export const RECORD_TTL_MS = 600_000;
/** Readers of one execution's output at once. */
export const MAX_READERS = 8;
/** Streams that feed one execution's stdin at once. */
export const MAX_WRITERS = 4;
/** Writers of one execution whose counts are remembered. */
export const MAX_KNOWN_WRITERS = 64;

/** Executions whose records an agent keeps at most; the oldest ended ones go first. */
export const MAX_RECORDS = 100_000;
/** Other instances that one HELLO or WELCOME names. */
export const MAX_PEERS = 64;
/** Replicas of the gateway that one agent links to at most. */
export const MAX_REPLICAS = 8;
/** How far a HELLO's time may be from the gateway's. */
export const HELLO_SKEW_MS = 60_000;

/** Body of one HTTP execute request, and all such bodies together in one gateway. */
export const MAX_REQUEST_BYTES = 16_777_216;
export const MAX_REQUESTS_IN_FLIGHT_BYTES = 268_435_456;
/** Nesting of a JSON body. */
export const MAX_JSON_DEPTH = 64;
/** Commas of a JSON body outside its strings: what it holds is counted before it is parsed. */
export const MAX_JSON_COMMAS = 65_536;
/** Of one request: files, variables, arguments, and all of these as the JSON in which they reach an agent. */
export const MAX_REQUEST_FILES = 1_000;
export const MAX_ENV_BYTES = 131_072;
export const MAX_ENV_VARIABLES = 4_096;
export const MAX_ARGS_BYTES = 131_072;
export const MAX_MANIFEST_BYTES = 4_718_592;
/** Linux bounds: PATH_MAX and NAME_MAX. */
export const MAX_PATH_BYTES = 4_096;
export const MAX_NAME_BYTES = 255;

/** What one execution may give back. */
export const MAX_RESULT_FILES = 1_000;
export const MAX_RESULT_FILES_BYTES = 268_435_456;
export const MAX_FILES_OMITTED = 100;

/** Stands at the end of output that was cut, and counts in its bound. */
export const TRUNCATION_MARKER = '\n...[truncated]';
/** What the answer may come after timeout + queue timeout, whatever breaks. */
export const ANSWER_GRACE_MS = 3_000;
/** The agent gives a runner that is silent this long past the timeout up. */
export const RUNNER_GRACE_MS = 2_000;
/** How often one execution is offered to an instance before its NACK is the answer. */
export const MAX_ATTEMPTS = 3;
/** Executions waiting for a slot, in one gateway and of one holder: a key's subject, whichever users it asks for. */
export const MAX_QUEUE = 10_000;
export const MAX_QUEUE_PER_HOLDER = 2_000;
/**
 * Of what all callers of a gateway share (its queue, its memory for bodies and for output, what it remembers of executions
 * that are over) one tenant has one part in so many at most, where it takes keys of several.
 */
export const TENANT_SHARE = 2;
/** The longest that a request may say it waits for a slot. */
export const MAX_QUEUE_TIMEOUT_MS = 600_000;

/** Sessions: bounds of their lives, and what one may have under way at once. */
export const MAX_SESSION_TTL_SECONDS = 86_400;
export const DEFAULT_SESSION_TTL_SECONDS = 900;
export const MAX_SESSION_WORK = 8;
/** Terminals of one session, and of one principal's sessions at one instance. */
export const MAX_TERMINALS = 4;
export const MAX_TERMINALS_PER_PRINCIPAL = 32;
/** Rows or columns of a terminal. */
export const MAX_TERMINAL_SIDE = 4_096;
/** A terminal ends where nobody typed for so long, and nothing was shown to anybody. */
export const TERMINAL_IDLE_MS = 1_800_000;
/** What one terminal shows in all. */
export const MAX_TERMINAL_OUTPUT_BYTES = 1_099_511_627_776;
/** One message of what is typed; what a terminal is told of in JSON. */
export const MAX_TERMINAL_INPUT_BYTES = 32_768;
export const MAX_TERMINAL_CONTROL_BYTES = 1_024;
/** Output on its way to whoever looks at a terminal, until it is acknowledged. */
export const TERMINAL_WINDOW_BYTES = 262_144;
/** What one request about files of a session moves at most, and how long it may take. */
export const MAX_SESSION_FILE_BYTES = 1_073_741_824;
export const SESSION_FILES_TIMEOUT_MS = 600_000;
/** Sessions of one instance, whatever its pools would hold. */
export const MAX_SESSIONS = 10_000;
