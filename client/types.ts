/** What the HTTP API takes and gives, in its own spelling. test/unit/client-types.test.ts holds it to shared/api.ts. */

/** What the code is written in; a template says which it has. */
export type Language = 'python' | 'bash' | 'node';
/** Whether code began to run; `unknown` is never sent again by Podgate, and may have run. */
export type Started = 'yes' | 'no' | 'unknown';
/** How a program ended: by itself, by a signal, at one of its limits, or because somebody cancelled it. */
export type Outcome =
  | 'exited'
  | 'signaled'
  | 'timed_out'
  | 'cpu_limit'
  | 'memory_limit'
  | 'output_limit'
  | 'cancelled';

/** Staged before the code runs. Exactly one of `file_id`, `content` and `content_base64`. */
export type RequestFile = {
  /** Relative, without `..`. */
  path: string;
  file_id?: string | undefined;
  content?: string | undefined;
  content_base64?: string | undefined;
};

/** One execution. Times in milliseconds; what is absent or null is the gateway's or the template's own. */
export type ExecuteRequest = {
  code: string;
  /** Closed at its end; absent means empty. */
  stdin?: string | null | undefined;
  /** The program's own time; 2000 unless given. */
  timeout_ms?: number | undefined;
  /** A last expression prints its value, as in a notebook; true unless given. */
  last_line_interactive?: boolean | undefined;
  files?: RequestFile[] | undefined;
  /** Python unless given. */
  language?: Language | undefined;
  template?: string | null | undefined;
  /** Where to run: the client's own, then the key's, unless given. */
  cluster?: string | null | undefined;
  /** Beside the image's own variables. */
  env?: Record<string, string> | undefined;
  /** What the program is called with, behind its name. */
  args?: string[] | undefined;
  /** Only downwards from the template's. */
  limits?:
    | {
        memory_mb?: number | null | undefined;
        /** Of the program and all that it starts. */
        cpu_seconds?: number | null | undefined;
        /** Of each stream: what is beyond is counted and left out. */
        max_output_bytes?: number | null | undefined;
        /** Of both streams together: a program that says more is killed, with the outcome `output_limit`. */
        output_limit_bytes?: number | null | undefined;
      }
    | undefined;
  /** How long to wait for a free sandbox; 5000 unless given. */
  queue_timeout_ms?: number | undefined;
  /** Runs to its end when the caller goes away, and can be asked for by its id for ten minutes. */
  detach?: boolean | undefined;
  /** Python: representations of the last value in place of its print, open figures, the error as data. */
  rich?: boolean | undefined;
};

/** What the code gave: text as it is, JSON as JSON, anything else in base64, by media type. */
export type PythonValue = { kind: 'result' | 'display' | 'figure'; data: Record<string, unknown> };

/** What a piece of Python gives beside its output. */
export type Results = {
  results: PythonValue[];
  /** Representations that were too large or too many. */
  results_omitted: { type: string; reason: string }[];
  /** The exception that ended the code; frames with the outermost first. */
  error: { name: string; value: string; frames: { file: string; line: number; name: string }[] } | null;
};

/** A file that an execution left; `file_id` is for `files.download`. */
export type ResultFile = { path: string; kind: 'file'; file_id: string };

/** How an execution ended, without its output. Sizes in bytes. */
export type ExecutionEnd = {
  /** 128 + signal when a signal ended it; null when it timed out or was cancelled. */
  exit_code: number | null;
  timed_out: boolean;
  /** The program's own time. */
  duration_ms: number;
  /** New and changed files. */
  files: ResultFile[];
  execution_id: string;
  cluster: string;
  outcome: Outcome;
  /** The number of the signal that ended it. */
  signal: number | null;
  /** What it said in all, also what was left out. */
  stdout_bytes: number;
  stderr_bytes: number;
  stdout_truncated: boolean;
  stderr_truncated: boolean;
  /** From the request to its slot. */
  queue_ms: number;
  /** Of the program and what it started. */
  cpu_ms: number;
  peak_memory_bytes: number;
  /** The first of those that were not kept, and why. */
  files_omitted: { path: string; reason: string }[];
  files_omitted_count: number;
};
type RichEnd = ExecutionEnd & { [Name in keyof Results]?: Results[Name] | undefined };

/** With results where the request says `rich`. */
export type ExecuteResult = { stdout: string; stderr: string } & RichEnd;

/** A piece of what it said, whole characters. */
export type OutputEvent = { type: 'output'; stream: 'stdout' | 'stderr'; data: string };
/** The end of an execution that streams. */
export type ResultEvent = { type: 'result' } & RichEnd;
/** Bytes of a stream that are not kept any more; only of executions that are read again. */
export type GapEvent = { type: 'gap'; stream: 'stdout' | 'stderr'; from: number; to: number };
/** Output as it happens, then exactly one result. What goes wrong is thrown as a PodgateError. */
export type StreamEvent = OutputEvent | GapEvent | ResultEvent;
/** The end of an execution that is read again: Python of a session has its context too. */
export type ReadResultEvent = ResultEvent & {
  context?: string | undefined;
  /** `lost`: what it remembered is gone. */
  context_state?: 'kept' | 'lost' | undefined;
};
/** With the id that `lastEventId` takes; null where there is none. */
export type NumberedEvent = (OutputEvent | GapEvent | ReadResultEvent) & { id: string | null };

/** A file that is stored; `file_id` is for requests and `files.download`. */
export type UploadedFile = { file_id: string; filename: string; size_bytes: number };
/** `upload_time` in Unix seconds. */
export type StoredFile = UploadedFile & { upload_time: number };
export type FilePage = { files: StoredFile[]; next_cursor: string | null };
/** `body` is read as fast as it is taken, and fails as calls do; cancel it when it is not wanted to its end. */
export type Download = {
  filename: string;
  size_bytes: number | null;
  body: ReadableStream<Uint8Array<ArrayBuffer>>;
};

/** What one template of a cluster offers, over all its instances. Memory in MB. */
export type TemplateState = {
  name: string;
  languages: string[];
  reuse: string;
  network: string;
  slots_free: number;
  slots_total: number;
  max_memory_mb: number;
  max_timeout_ms: number;
  trouble: { code: string; detail: string } | null;
  /** What the last canary found of this template; null before the first. */
  isolation: { checked_at: number; state: IsolationState; findings: IsolationFinding[] } | null;
};

/** What a canary found of a promise; `unknown` where it could not tell. */
export type IsolationState = 'holds' | 'broken' | 'unknown';
/** One promise of isolation, as a canary found it, in one sentence. */
export type IsolationFinding = { name: string; state: IsolationState; detail: string };

/** A place to run. `ready` takes work, `degraded` does with trouble, `unavailable` takes none; `detail` says why. */
export type Cluster = {
  name: string;
  state: 'ready' | 'degraded' | 'unavailable';
  detail: string | null;
  backend: string;
  kubernetes_version: string | null;
  /** `first_seen` in Unix seconds. */
  instances: { instance: string; first_seen: number; links: number; draining: boolean }[];
  templates: TemplateState[];
  /** What canaries found: one line a promise, as it is where it is worst. `checked_at` in Unix seconds. */
  isolation: { checked_at: number | null; findings: IsolationFinding[] };
};
export type ClusterPage = { clusters: Cluster[]; next_cursor: string | null };

/** Times in Unix seconds. */
export type ExecutionStatus = {
  execution_id: string;
  cluster: string;
  state: 'accepted' | 'started' | 'ended';
  started_at: number | null;
  ended_at: number | null;
  result: {
    outcome: Outcome;
    exit_code: number | null;
    signal: number | null;
    timed_out: boolean;
    duration_ms: number;
    cpu_ms: number;
    peak_memory_bytes: number;
    stdout_bytes: number;
    stderr_bytes: number;
  } | null;
  failure: { code: string; detail: string; started: Started } | null;
};
