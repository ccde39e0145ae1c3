import type { ExecutionResult } from '../../shared/messages.ts';
import type { PythonResults } from '../../shared/result-api.ts';
import type { OmittedFile, ResultFile } from './result-files.ts';

/** What the output adds to a result: checked, capped, stored. */
export type OutputEnding = {
  stdoutTruncated: boolean;
  stderrTruncated: boolean;
  files: readonly ResultFile[];
  filesOmitted: readonly OmittedFile[];
  filesOmittedCount: number;
  /** What the document of results says, where there is to be one. */
  results?: PythonResults;
};

/** How an execution ended whose code ran. */
export type Ending = OutputEnding & {
  executionId: string;
  cluster: string;
  result: ExecutionResult;
  queueMs: number;
  /** Of Python of a session, where its agent told it. */
  context?: string | undefined;
};
