import type { Podgate } from '../client/podgate.ts';
import type { ResultEvent, StreamEvent } from '../client/types.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { type Io, printable, write } from './io.ts';
import { type SavedFiles, saveFile } from './save-files.ts';
import { showResults } from './save-results.ts';

export type ShowOptions = {
  io: Io;
  /** Folder for the files that the program made. */
  saveTo?: string | undefined;
};

/** Shows what an execution says, as if its program ran here. Resolves to the program's exit status. */
export async function showExecution(
  podgate: Podgate,
  events: AsyncIterable<StreamEvent>,
  { io, saveTo }: ShowOptions,
): Promise<number> {
  const result = await follow(events, io);
  if (result === undefined) return EXIT_STATUS.readerGone;
  const saved: SavedFiles = new Set();
  await showResults(result, { io, saveTo, saved });
  if (saveTo !== undefined) await download(podgate, result, { io, saveTo, saved });
  return exitStatus(result, io);
}

/** Undefined: who read the output left, as `head` does. */
async function follow(events: AsyncIterable<StreamEvent>, io: Io): Promise<ResultEvent | undefined> {
  for await (const event of events) {
    if (event.type === 'result') return event;
    if (event.type === 'gap') {
      const bytes = event.to - event.from;
      await write(io.stderr, `podgate: ${bytes} bytes of ${event.stream} are not kept any more\n`);
      continue;
    }
    const isRead = await write(event.stream === 'stdout' ? io.stdout : io.stderr, event.data);
    if (!isRead && event.stream === 'stdout') return undefined;
  }
  throw new Error('the stream ended without a result');
}

async function download(
  podgate: Podgate,
  result: ResultEvent,
  { io, saveTo, saved }: { io: Io; saveTo: string; saved: SavedFiles },
): Promise<void> {
  for (const { path, file_id } of result.files) {
    const { body } = await podgate.files.download(file_id, { signal: io.signal });
    await saveFile(saveTo, path, body, saved);
    await write(io.stderr, `podgate: saved ${printable(path)}\n`);
  }
  for (const { path, reason } of result.files_omitted)
    await write(io.stderr, `podgate: ${printable(path)} was not kept: ${printable(reason)}\n`);
  const unnamed = result.files_omitted_count - result.files_omitted.length;
  if (unnamed > 0) await write(io.stderr, `podgate: ${unnamed} more files were not kept\n`);
}

async function exitStatus(result: ResultEvent, io: Io): Promise<number> {
  if (result.stdout_truncated || result.stderr_truncated)
    await write(
      io.stderr,
      `podgate: output was cut: ${result.stdout_bytes} bytes of stdout, ${result.stderr_bytes} of stderr in all\n`,
    );
  const says: Partial<Record<ResultEvent['outcome'], string>> = {
    timed_out: 'ran out of time',
    cpu_limit: 'ran out of CPU time',
    memory_limit: 'ran out of memory',
    output_limit: 'printed too much',
    cancelled: 'was cancelled',
  };
  const sentence = says[result.outcome];
  if (sentence) await write(io.stderr, `podgate: the program ${sentence}\n`);
  if (result.outcome === 'timed_out') return EXIT_STATUS.timedOut;
  if (result.outcome === 'cancelled') return EXIT_STATUS.cancelled;
  return result.exit_code ?? EXIT_STATUS.failed;
}
