import type { Failure } from '../../shared/errors.ts';
import { CHANNEL } from '../../shared/messages.ts';
import type { RequestInfo } from '../http/route.ts';
import { resultOf } from './answer.ts';
import type { Ending, ExecutionRun } from './execution-run.ts';
import { createTextStream } from './output-text.ts';

/** Proxies cut streams that are silent for a minute. */
export const KEEP_ALIVE_MS = 15_000;

const encoder = new TextEncoder();
const KEEP_ALIVE = encoder.encode(': keep-alive\n\n');
const NAMES = { [CHANNEL.stdout]: 'stdout', [CHANNEL.stderr]: 'stderr' } as const;

/** One server-sent event as existing clients parse it. */
export function formatEvent(name: string, data: object): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

/**
 * A run as server-sent events. Nothing is taken from the run before the HTTP reader asks for it, so that a slow reader
 * slows its own program and nothing else.
 */
export function eventStream(
  run: ExecutionRun,
  { disconnect }: RequestInfo,
  describe: (ending: Ending) => object = resultOf,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const events = eventsOf(run, describe);
  return new ReadableStream(
    {
      start(controller) {
        run.onDismiss(() => {
          if (disconnect) disconnect();
          else controller.error(new Error('the reader took nothing for too long'));
        });
      },
      async pull(controller) {
        const { done, value } = await events.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: () => run.abandon(),
    },
    { highWaterMark: 0 },
  );
}

async function* eventsOf(
  run: ExecutionRun,
  describe: (ending: Ending) => object,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  const texts = { stdout: createTextStream(), stderr: createTextStream() };
  for (;;) {
    const taken = await run.next(KEEP_ALIVE_MS);
    if (taken.type === 'idle') yield KEEP_ALIVE;
    else if (taken.type === 'output') {
      const stream = NAMES[taken.channel as 1 | 2];
      const data = texts[stream].push(taken.bytes);
      if (data !== '') yield encoder.encode(formatEvent('output', { stream, data }));
    } else {
      yield encoder.encode(lastOf(texts, taken, describe));
      return;
    }
  }
}

type Texts = Record<'stdout' | 'stderr', ReturnType<typeof createTextStream>>;

/** Half a character at the end is the program's own, unless the cap cut there. */
function lastOf(
  texts: Texts,
  last: { type: 'end'; ending: Ending } | { type: 'failed'; failure: Failure },
  describe: (ending: Ending) => object,
): string {
  if (last.type === 'failed') {
    const { detail, code, started } = last.failure;
    return formatEvent('error', { message: detail, code, started });
  }
  const { ending } = last;
  const cut = { stdout: ending.stdoutTruncated, stderr: ending.stderrTruncated };
  const rest = (['stdout', 'stderr'] as const).map((stream) => {
    const data = texts[stream].end();
    return data === '' || cut[stream] ? '' : formatEvent('output', { stream, data });
  });
  return rest.join('') + formatEvent('result', describe(ending));
}
