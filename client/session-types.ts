/** What the HTTP API takes and gives of sessions, in its own spelling, as types.ts has the rest. */

import type { ExecutionEnd, GapEvent, OutputEvent, RequestFile, Results } from './types.ts';

/** One session. What is absent or null is the gateway's own. */
export type SessionRequest = {
  /** Staged before anything runs. */
  files?: RequestFile[] | undefined;
  /** How long it stays; 900 unless given, 86400 at most. */
  ttl_seconds?: number | undefined;
  /** It also ends when nothing ran for so long. */
  idle_seconds?: number | null | undefined;
  template?: string | null | undefined;
  cluster?: string | null | undefined;
  /** How long to wait for a free sandbox; 5000 unless given. */
  queue_timeout_ms?: number | undefined;
};

/** Times in Unix seconds. */
export type SessionState = {
  session_id: string;
  expires_at: number;
  created_at: number;
  idle_seconds: number | null;
  cluster: string;
  template: string;
  /** Pieces of its work that are under way. */
  running: number;
  /** Names of its terminals; not in a list. */
  terminals?: string[] | undefined;
};
export type SessionPage = { sessions: SessionState[]; next_cursor: string | null };

/** One shell command. */
export type BashRequest = {
  cmd: string;
  /** The command's own time; 30000 unless given. */
  timeout_ms?: number | undefined;
  env?: Record<string, string> | undefined;
  /** Closed at its end; absent means empty. */
  stdin?: string | null | undefined;
};
/** `input`: standard input stays open behind `stdin`. */
export type BashStreamRequest = BashRequest & { input?: boolean | undefined };
/** What the agent has of what was written; `open`: more may follow. */
export type StdinState = { bytes: number; open: boolean };
/** What a program of a session may be sent. */
export type SignalName =
  | 'SIGHUP'
  | 'SIGINT'
  | 'SIGQUIT'
  | 'SIGKILL'
  | 'SIGUSR1'
  | 'SIGUSR2'
  | 'SIGTERM'
  | 'SIGCONT'
  | 'SIGSTOP'
  | 'SIGTSTP'
  | 'SIGWINCH';
type InPlace<End> = Omit<End, 'files' | 'files_omitted' | 'files_omitted_count'>;
/** How a command ended. What it left in the workspace stays there. */
export type BashEnd = InPlace<ExecutionEnd>;
export type BashResult = { stdout: string; stderr: string } & BashEnd;
/** `gap` only where what was asked for with an idempotency key is told again. */
export type BashEvent = OutputEvent | GapEvent | ({ type: 'result' } & BashEnd);

/** What lies at a path of a session; `size` in bytes, `modified_at` in Unix seconds, `mode` its permission bits. */
export type WorkspaceEntry = {
  name: string;
  type: 'file' | 'directory' | 'link' | 'other';
  size: number;
  mode: number;
  modified_at: number;
  /** Of a link. */
  target?: string | undefined;
};
export type WorkspacePage = { entries: WorkspaceEntry[]; next_cursor: string | null };

/** One piece of Python in a session. */
export type PythonRequest = {
  code: string;
  /** One interpreter each; a name that is new begins one. `main` unless given. */
  context?: string | undefined;
  stdin?: string | null | undefined;
  /** 30000 unless given. At its end the code is interrupted; only what does not heed that is killed. */
  timeout_ms?: number | undefined;
  last_line_interactive?: boolean | undefined;
  /** Representations and figures in place of a printed last value. */
  rich?: boolean | undefined;
  /** Staged before the code runs. */
  files?: RequestFile[] | undefined;
};

/** `input`: standard input stays open behind `stdin`. */
export type PythonStreamRequest = PythonRequest & { input?: boolean | undefined };

/** How a piece of Python ended. */
export type PythonEnd = BashEnd &
  Results & {
    context: string;
    /** `lost`: what it remembered is gone, since its process ended in this execution or before it. */
    context_state: 'kept' | 'lost';
  };
export type PythonResult = { stdout: string; stderr: string } & PythonEnd;
export type PythonEvent = OutputEvent | GapEvent | ({ type: 'result' } & PythonEnd);
