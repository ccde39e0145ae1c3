import { Agent, type IncomingMessage, request } from 'node:http';
import { createRawPost } from './raw-post.ts';

/** The least an HTTP client can cost: its share of a figure would be taken for the gateway's. */
export type BenchClient = Disposable & {
  post(path: string, body: unknown): Promise<unknown>;
  get(path: string): Promise<unknown>;
  /** The answer as soon as its headers are there; nothing reads it yet. */
  open(path: string, body: unknown): Promise<IncomingMessage>;
};

export function createBenchClient(url: string, key: string): BenchClient {
  const agent = new Agent({ keepAlive: true, maxSockets: 512 });
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  const raw = createRawPost(new URL(url), headers);

  function open(method: string, path: string, body: unknown): Promise<IncomingMessage> {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const asked = request(
        `${url}${path}`,
        { agent, method, headers: bytes ? { ...headers, 'content-length': bytes.length } : headers },
        resolve,
      );
      asked.on('error', reject);
      asked.end(bytes);
    });
  }

  function parse(path: string, status: number | undefined, text: string): unknown {
    if (status !== 200) throw new Error(`${path} answered ${status}: ${text.slice(0, 300)}`);
    return JSON.parse(text);
  }

  return {
    async post(path, body) {
      const { status, text } = await raw.post(path, JSON.stringify(body));
      return parse(path, status, text);
    },
    async get(path) {
      const answer = await open('GET', path, undefined);
      const chunks: Buffer[] = [];
      for await (const chunk of answer) chunks.push(chunk as Buffer);
      return parse(path, answer.statusCode, Buffer.concat(chunks).toString());
    },
    open: (path, body) => open('POST', path, body),
    [Symbol.dispose]: () => {
      agent.destroy();
      raw[Symbol.dispose]();
    },
  };
}
