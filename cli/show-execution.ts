import type { Podgate } from '../client/podgate.ts';
import type { ResultEvent, StreamEvent } from '../client/types.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { createFileSaver, type FileSaver } from './file-saver.ts';
import { type Io, printable, write, writeOutput } from './io.ts';
import { showResults } from './save-results.ts';
import { tellEnd } from './tell-end.ts';

export type ShowOptions = {
  io: Io;
  /** Folder for the files that the program made. */
  saveTo?: string | undefined;
};

/**
 * Shows what an execution says, as if its program ran here. Resolves to the program's exit status, or to that of a
 * failure where a file that it made could not be saved.
 */
export async function showExecution(
  podgate: Podgate,
  events: AsyncIterable<StreamEvent>,
  { io, saveTo }: ShowOptions,
): Promise<number> {
  const result = await follow(events, io);
  if (result === undefined) return EXIT_STATUS.readerGone;
  const saver = saveTo === undefined ? undefined : createFileSaver(saveTo, io);
  let isSaved = true;
  try {
    await showResults(result, { io, saver });
    if (saver) await download(podgate, result, { io, saver });
  } finally {
    isSaved = (await saver?.end()) ?? true;
  }
  const status = await tellEnd(result, io);
  return isSaved ? status : EXIT_STATUS.failed;
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
    if (!(await writeOutput(io, event))) return undefined;
  }
  throw new Error('the stream ended without a result');
}

async function download(
  podgate: Podgate,
  result: ResultEvent,
  { io, saver }: { io: Io; saver: FileSaver },
): Promise<void> {
  for (const { path, file_id } of result.files)
    await saver.save(path, async () => (await podgate.files.download(file_id, { signal: io.signal })).body);
  for (const { path, reason } of result.files_omitted)
    await write(io.stderr, `podgate: ${printable(path)} was not kept: ${printable(reason)}\n`);
  const unnamed = result.files_omitted_count - result.files_omitted.length;
  if (unnamed > 0) await write(io.stderr, `podgate: ${unnamed} more files were not kept\n`);
}
