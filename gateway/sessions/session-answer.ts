import { resultOf } from '../execution/answer.ts';
import type { Ending } from '../execution/ending.ts';
import { NOTHING } from '../execution/result-document.ts';

/** How work in a session ended: it gives no files, they stay where they are. */
export function commandResultOf(ending: Ending) {
  const { files: _, files_omitted, files_omitted_count, ...rest } = resultOf(ending);
  return rest;
}

/** How a piece of Python in a context ended. */
export function pythonResultOf(context: string) {
  return (ending: Ending) => ({
    ...commandResultOf(ending),
    ...(ending.results ?? NOTHING),
    context,
    context_state: ending.result.context ?? ('lost' as const),
  });
}

/** How any execution ended, for whoever reads its events. */
export function readResultOf(ending: Ending): object {
  const { context } = ending;
  return { ...resultOf(ending), ...(context !== undefined && pythonResultOf(context)(ending)) };
}
