import { downloadOf } from '../files/download.ts';
import type { Timers } from '../gateway-deps.ts';
import type { RequestInfo } from '../http/route.ts';
import { collectAs } from './answer.ts';
import type { Ending } from './ending.ts';
import type { OutputSource } from './output-reader.ts';

/** What is longer is made as its reader takes it: NULs are six times as long in JSON as they were in memory. */
export const WHOLE_ANSWER_CHARS = 16_384;

const encoder = new TextEncoder();

export type JsonAnswerOptions = RequestInfo & {
  timers: Timers;
  /** Cap of stdout and of stderr each. */
  maxOutputBytes: number;
};

/**
 * Collects output and end, and answers with them as JSON. The memory of a long answer is the run's until its reader has
 * taken it; one that takes nothing for a minute is let go.
 */
export async function answerAsJson(
  source: OutputSource,
  describe: (ending: Ending) => object,
  { maxOutputBytes, timers, disconnect }: JsonAnswerOptions,
): Promise<Response> {
  const letGo = source.hold();
  try {
    const { stdout, stderr, ...rest } = await collectAs(source, maxOutputBytes, describe);
    const end = `,${JSON.stringify(rest).slice(1)}`;
    const headers = { 'Content-Type': 'application/json', 'Podgate-Execution-Id': source.executionId };
    if (stdout.length + stderr.length + end.length <= WHOLE_ANSWER_CHARS) {
      letGo();
      return new Response(`{"stdout":${JSON.stringify(stdout)},"stderr":${JSON.stringify(stderr)}${end}`, {
        headers,
      });
    }
    const body = bodyOf(piecesOf(stdout, stderr, end), letGo);
    return new Response(downloadOf(body, { watch: () => () => {}, timers, disconnect }), { headers });
  } catch (error) {
    letGo();
    throw error;
  }
}

function* piecesOf(stdout: string, stderr: string, end: string): Generator<string> {
  yield '{"stdout":"';
  yield* escapedPieces(stdout);
  yield '","stderr":"';
  yield* escapedPieces(stderr);
  yield '"';
  yield* piecesOfText(end);
}

function* escapedPieces(text: string): Generator<string> {
  for (const piece of piecesOfText(text)) yield JSON.stringify(piece).slice(1, -1);
}

function* piecesOfText(text: string): Generator<string> {
  for (let from = 0; from < text.length; ) {
    let to = Math.min(from + WHOLE_ANSWER_CHARS, text.length);
    // A character of two code units stays one.
    if (to < text.length && isHighSurrogate(text.charCodeAt(to - 1))) to -= 1;
    yield text.slice(from, to);
    from = to;
  }
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit < 0xdc00;
}

function bodyOf(pieces: Iterator<string>, ended: () => void): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream(
    {
      pull(controller) {
        const { done, value } = pieces.next();
        if (done) {
          ended();
          controller.close();
        } else controller.enqueue(encoder.encode(value));
      },
      cancel: ended,
    },
    { highWaterMark: 0 },
  );
}
