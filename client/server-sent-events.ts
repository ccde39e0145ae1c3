import { PodgateError } from './podgate-error.ts';

/** `id`: the last that came, with this event or before it. */
export type ServerSentEvent = { event: string; data: string; id: string | null };

/** More than any event of Podgate's; a stream without line ends would otherwise be held whole. */
const MAX_EVENT_CHARS = 33_554_432;

/**
 * Reads text/event-stream as the HTML standard says: lines end with LF, CR or CRLF, wherever chunks break; comments
 * and unknown fields are skipped; an event that the stream's end cuts off is dropped. Leaving the loop cancels the body.
 */
export async function* readServerSentEvents(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<ServerSentEvent, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new ServerSentEventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // What is left of the answer is not wanted; a body that ended or failed has nothing to cancel.
    await reader.cancel().catch(() => {});
  }
}

class ServerSentEventParser {
  #line = '';
  #afterCr = false;
  #event = '';
  #id: string | null = null;
  #data: string[] = [];
  #chars = 0;

  *push(text: string): Generator<ServerSentEvent, void, undefined> {
    let start = 0;
    if (this.#afterCr && text !== '') {
      if (text.startsWith('\n')) start = 1;
      this.#afterCr = false;
    }
    for (let end = start; end < text.length; end++) {
      const char = text[end];
      if (char !== '\n' && char !== '\r') continue;
      const event = this.#endLine(this.#line + text.slice(start, end));
      this.#line = '';
      if (char === '\r') {
        if (text[end + 1] === '\n') end++;
        else if (end + 1 === text.length) this.#afterCr = true;
      }
      start = end + 1;
      if (event) yield event;
    }
    this.#line += text.slice(start);
    if (this.#chars + this.#line.length > MAX_EVENT_CHARS) {
      throw new PodgateError('An event is too long', { code: 'malformed_answer', started: 'unknown' });
    }
  }

  #endLine(line: string): ServerSentEvent | undefined {
    if (line === '') return this.#dispatch();
    this.#chars += line.length;
    const colon = line.indexOf(':');
    const field = colon === -1 ? line : line.slice(0, colon);
    const rest = colon === -1 ? '' : line.slice(colon + 1);
    const value = rest.startsWith(' ') ? rest.slice(1) : rest;
    if (field === 'event') this.#event = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    else if (field === 'data') this.#data.push(value);
    return undefined;
  }

  #dispatch(): ServerSentEvent | undefined {
    const event = this.#event || 'message';
    const data = this.#data;
    this.#event = '';
    this.#data = [];
    this.#chars = 0;
    return data.length > 0 ? { event, data: data.join('\n'), id: this.#id } : undefined;
  }
}
