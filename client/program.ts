import { discard, malformed, readJson } from './answers.ts';
import { blobOf, type Content } from './content.ts';
import { followEvents } from './follow-events.ts';
import type { CallOptions } from './options.ts';
import type { SignalName, StdinState } from './session-types.ts';
import { pathPart, type Transport } from './transport.ts';
import type { OutputEvent } from './types.ts';

export type WriteOptions = CallOptions & {
  /** Its standard input ends behind this. */
  close?: boolean | undefined;
};

/**
 * A program of a session, while it runs. Iterate it for what it says, then exactly one `result`; leaving the loop ends it.
 * Meanwhile it can be fed, where its input is open, and signalled.
 *
 * @example
 * const cat = await session.spawn('cat');
 * await cat.write('hello\n', { close: true });
 * for await (const event of cat) console.log(event);
 */
export class Program<End extends object> implements AsyncIterable<OutputEvent | ({ type: 'result' } & End)> {
  /** Of its execution. */
  readonly id: string;
  readonly #transport: Transport;
  readonly #events: AsyncGenerator<OutputEvent | ({ type: 'result' } & End), void, undefined>;

  constructor(transport: Transport, response: Response, signal: AbortSignal | undefined) {
    const id = response.headers.get('podgate-execution-id');
    if (id === null) throw malformed('unknown');
    this.id = id;
    this.#transport = transport;
    this.#events = followEvents<End>(response, signal);
  }

  [Symbol.asyncIterator]() {
    return this.#events;
  }

  /** Resolves when its agent has all of it, which waits for a program that reads slowly. A stream is sent as it comes. */
  async write(
    content: Content | ReadableStream<Uint8Array<ArrayBuffer>>,
    { close = false, signal }: WriteOptions = {},
  ): Promise<StdinState> {
    const isStream = content instanceof ReadableStream;
    const body = isStream ? content : blobOf(content);
    const call = { method: 'POST' as const, path: this.#path('stdin'), query: { close: String(close) } };
    const headers = { 'content-type': 'application/octet-stream' };
    const rest = { headers, body: () => body, signal, mayStart: true, once: isStream };
    return readJson(await this.#transport.send({ ...call, ...rest }), signal);
  }

  /** Ends its standard input. */
  end(options: CallOptions = {}): Promise<StdinState> {
    return this.write('', { ...options, close: true });
  }

  /** Sends it a signal. SIGINT interrupts Python without losing its state. */
  async signal(name: SignalName, { signal }: CallOptions = {}): Promise<void> {
    const path = this.#path('signal');
    const json = { signal: name };
    await discard(await this.#transport.send({ method: 'POST', path, json, signal, mayStart: true }));
  }

  #path(what: string): string {
    return `/v1/executions/${pathPart(this.id)}/${what}`;
  }
}
