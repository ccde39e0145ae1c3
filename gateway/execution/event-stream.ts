import { CHANNEL } from '../../shared/frame-type.ts';
import type { Timers } from '../gateway-deps.ts';
import type { RequestInfo } from '../http/route.ts';
import { resultOf } from './answer.ts';
import type { ReceivedBytes } from './check-exit.ts';
import type { Ending } from './ending.ts';
import { createEventText, createNumberedText, type EventText } from './event-text.ts';
import type { OutputGap } from './output-queue.ts';
import type { Last, OutputSource } from './output-reader.ts';

/** Proxies cut streams that are silent for a minute. */
export const KEEP_ALIVE_MS = 15_000;

/** Output that waits has a clock of its own (READER_STALL_MS); this one is for the end, which may be megabytes. */
export const EVENT_STALL_MS = 60_000;
/** Of the last event, which is taken in pieces. */
const PIECE_BYTES = 65_536;

const encoder = new TextEncoder();
const KEEP_ALIVE = encoder.encode(': keep-alive\n\n');
const NAMES = { [CHANNEL.stdout]: 'stdout', [CHANNEL.stderr]: 'stderr' } as const;

/** One server-sent event as existing clients parse it; with `id`, one that a reader may go on behind. */
function formatEvent(name: string, data: object, id?: string): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** Where ids begin that a reader is given who has nothing yet. */
export const FROM_THE_START: ReceivedBytes = { stdout: 0, stderr: 0 };

export type EventStreamOptions = RequestInfo & {
  timers: Timers;
  /** What is said of the end. */
  describe?: (ending: Ending) => object;
  /** Events carry ids, counted from here. */
  from?: ReceivedBytes | undefined;
};

/** The answer that streams. */
export function eventResponse(source: OutputSource, options: EventStreamOptions): Response {
  return new Response(eventStream(source, options), {
    headers: {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-cache',
      'X-Accel-Buffering': 'no',
      'Podgate-Execution-Id': source.executionId,
    },
  });
}

/**
 * Output as server-sent events. Nothing is taken from its source before the HTTP reader asks for it, so that a slow
 * reader slows its own program and nothing else; nor does one that does not take the end hold its memory for long.
 */
function eventStream(
  source: OutputSource,
  { disconnect, timers, describe = resultOf, from }: EventStreamOptions,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const events = eventsOf(source, describe, from);
  const letGo = source.hold();
  let stall: unknown;
  const breakOff = (controller: ReadableStreamDefaultController) => {
    timers.clearTimeout(stall);
    source.abandon();
    if (disconnect) disconnect();
    else controller.error(new Error('the reader took nothing for too long'));
  };
  return new ReadableStream(
    {
      start(controller) {
        source.onDismiss(() => breakOff(controller));
      },
      async pull(controller) {
        timers.clearTimeout(stall);
        const { done, value } = await events.next();
        if (done) {
          letGo();
          controller.close();
          return;
        }
        controller.enqueue(value);
        stall = timers.setTimeout(() => breakOff(controller), EVENT_STALL_MS);
      },
      cancel() {
        timers.clearTimeout(stall);
        source.abandon();
      },
    },
    { highWaterMark: 0 },
  );
}

/** With `from` events carry ids, and a gap is told of. */
async function* eventsOf(
  source: OutputSource,
  describe: (ending: Ending) => object,
  from: ReceivedBytes | undefined,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  const text = from ? createNumberedText(from) : createEventText();
  for (;;) {
    const taken = await source.next(KEEP_ALIVE_MS);
    if (taken.type === 'idle') yield KEEP_ALIVE;
    else if (taken.type === 'output') {
      const stream = NAMES[taken.channel as 1 | 2];
      const data = text.push(stream, taken.bytes);
      if (data !== '') yield encoder.encode(formatEvent('output', { stream, data }, text.id));
    } else if (taken.type === 'gap') {
      if (from) yield encoder.encode(gapOf(text, taken));
    } else {
      yield* inPieces(lastOf(text, taken, describe));
      return;
    }
  }
}

function* inPieces(text: string): Generator<Uint8Array<ArrayBuffer>> {
  const bytes = encoder.encode(text);
  for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

/** Half a character before it is the program's own. */
function gapOf(text: EventText, { channel, from, to }: OutputGap): string {
  const stream = NAMES[channel as 1 | 2];
  const data = text.end(stream);
  const rest = data === '' ? '' : formatEvent('output', { stream, data }, text.id);
  text.skipTo(stream, to);
  return rest + formatEvent('gap', { stream, from, to }, text.id);
}

/** Half a character at the end is the program's own, unless the cap cut there. */
function lastOf(text: EventText, last: Last, describe: (ending: Ending) => object): string {
  if (last.type === 'failed') {
    const { detail, code, started } = last.failure;
    return formatEvent('error', { message: detail, code, started });
  }
  const { ending } = last;
  const rests = [
    { stream: 'stdout', data: text.end('stdout'), isCut: ending.stdoutTruncated },
    { stream: 'stderr', data: text.end('stderr'), isCut: ending.stderrTruncated },
  ];
  const events = rests
    .filter(({ data, isCut }) => data !== '' && !isCut)
    .map(({ stream, data }) => formatEvent('output', { stream, data }, text.id));
  return events.join('') + formatEvent('result', describe(ending), text.id);
}
