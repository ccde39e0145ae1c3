import { Agent, type IncomingMessage, request } from 'node:http';

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

  async function json(method: string, path: string, body: unknown): Promise<unknown> {
    const answer = await open(method, path, body);
    const chunks: Buffer[] = [];
    for await (const chunk of answer) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    if (answer.statusCode !== 200)
      throw new Error(`${path} answered ${answer.statusCode}: ${text.slice(0, 300)}`);
    return JSON.parse(text);
  }

  return {
    post: (path, body) => json('POST', path, body),
    get: (path) => json('GET', path, undefined),
    open: (path, body) => open('POST', path, body),
    [Symbol.dispose]: () => agent.destroy(),
  };
}
