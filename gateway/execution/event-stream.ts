import { CHANNEL } from '../../shared/frame-type.ts';
import type { Timers } from '../gateway-deps.ts';
import type { RequestInfo } from '../http/route.ts';
import { resultOf } from './answer.ts';
import type { ReceivedBytes } from './check-exit.ts';
import type { Last, OutputSource } from './output-reader.ts';
import { createTextPieces, createTextStream } from './output-text.ts';
import type { Ending } from './run-ending.ts';

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
export function formatEvent(name: string, data: object, id?: string): string {
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

/** What `Last-Event-ID` says that its reader has: bytes of stdout and of stderr. Null where it is no id of ours. */
export function readEventId(id: string): ReceivedBytes | null {
  const [, stdout, stderr] = /^(\d{1,15})\.(\d{1,15})$/.exec(id) ?? [];
  return stdout === undefined ? null : { stdout: Number(stdout), stderr: Number(stderr) };
}

/**
 * Output as server-sent events. Nothing is taken from its source before the HTTP reader asks for it, so that a slow
 * reader slows its own program and nothing else; nor does one that does not take the end hold its memory for long.
 */
function eventStream(
  source: OutputSource,
  { disconnect, timers, describe = resultOf, from }: EventStreamOptions,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const events = from ? numberedEventsOf(source, describe, from) : eventsOf(source, describe);
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

async function* eventsOf(source: OutputSource, describe: (ending: Ending) => object): Events {
  const texts = { stdout: createTextStream(), stderr: createTextStream() };
  for (;;) {
    const taken = await source.next(KEEP_ALIVE_MS);
    if (taken.type === 'idle') yield KEEP_ALIVE;
    else if (taken.type === 'output') {
      const stream = NAMES[taken.channel as 1 | 2];
      const data = texts[stream].push(taken.bytes);
      if (data !== '') yield encoder.encode(formatEvent('output', { stream, data }));
    } else if (taken.type !== 'gap') {
      yield* inPieces(lastOf(texts, taken, describe));
      return;
    }
  }
}

async function* numberedEventsOf(
  source: OutputSource,
  describe: (ending: Ending) => object,
  from: ReceivedBytes,
): Events {
  const texts = { stdout: createTextPieces(), stderr: createTextPieces() };
  const at = { ...from };
  const id = () => `${at.stdout - texts.stdout.held}.${at.stderr - texts.stderr.held}`;
  for (;;) {
    const taken = await source.next(KEEP_ALIVE_MS);
    if (taken.type === 'idle') yield KEEP_ALIVE;
    else if (taken.type === 'output') {
      const stream = NAMES[taken.channel as 1 | 2];
      const data = texts[stream].push(taken.bytes);
      at[stream] += taken.bytes.byteLength;
      if (data !== '') yield encoder.encode(formatEvent('output', { stream, data }, id()));
    } else if (taken.type === 'gap') {
      const stream = NAMES[taken.channel as 1 | 2];
      const data = texts[stream].end();
      const rest = data === '' ? '' : formatEvent('output', { stream, data }, id());
      at[stream] = taken.to;
      yield encoder.encode(rest + formatEvent('gap', { stream, from: taken.from, to: taken.to }, id()));
    } else {
      yield* inPieces(lastOf(texts, taken, describe, `${at.stdout}.${at.stderr}`));
      return;
    }
  }
}

function* inPieces(text: string): Generator<Uint8Array<ArrayBuffer>> {
  const bytes = encoder.encode(text);
  for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

type Events = AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined>;
type Texts = Record<'stdout' | 'stderr', { end(): string }>;

/** Half a character at the end is the program's own, unless the cap cut there. */
function lastOf(texts: Texts, last: Last, describe: (ending: Ending) => object, id?: string): string {
  if (last.type === 'failed') {
    const { detail, code, started } = last.failure;
    return formatEvent('error', { message: detail, code, started });
  }
  const { ending } = last;
  const cut = { stdout: ending.stdoutTruncated, stderr: ending.stderrTruncated };
  const rest = (['stdout', 'stderr'] as const).map((stream) => {
    const data = texts[stream].end();
    return data === '' || cut[stream] ? '' : formatEvent('output', { stream, data }, id);
  });
  return rest.join('') + formatEvent('result', describe(ending), id);
}
