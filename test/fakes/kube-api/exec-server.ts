import type { ChildProcess } from 'node:child_process';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { PodProcess } from './pod-process.ts';

const V5 = 'v5.channel.k8s.io';
const V4 = 'v4.channel.k8s.io';

/** What goes wrong with execs, until it is changed. */
export type ExecFaults = {
  /** Knows only v4, as servers before 1.30. */
  onlyV4: boolean;
  /** The connection ends with a close frame, and no word of how the command did. */
  noStatus: boolean;
  /** Takes everything, answers nothing: a connection whose other end is gone. */
  halfOpen: boolean;
  /** Upgrades, as the API server's translation does, and only then says that there is no container. */
  lateRefusal: boolean;
};

export type ExecServer = {
  readonly faults: ExecFaults;
  /** `container` is undefined where none runs. */
  handle(request: IncomingMessage, socket: Duplex, head: Buffer, container: PodProcess | undefined): void;
  /** Cuts every open exec, without a word. */
  drop(): void;
  /** Every exec that was opened, whatever became of it. */
  readonly opened: number;
};

export function createExecServer(): ExecServer {
  const faults: ExecFaults = { onlyV4: false, noStatus: false, halfOpen: false, lateRefusal: true };
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has(V5) && !faults.onlyV4 ? V5 : offered.has(V4) ? V4 : false),
  });
  let opened = 0;

  return {
    faults,
    get opened() {
      return opened;
    },
    drop() {
      for (const client of server.clients) client.terminate();
    },
    handle(request, socket, head, container) {
      const url = new URL(request.url ?? '/', 'http://localhost');
      if (container === undefined && !faults.lateRefusal) {
        socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
        return;
      }
      server.handleUpgrade(request, socket, head, (client) => {
        opened += 1;
        client.send(Buffer.of(1));
        if (faults.halfOpen) client.pause();
        else if (container === undefined) refuse(client);
        else relay(client, container.enter(url.searchParams.getAll('command')), faults);
      });
    },
  };
}

function refuse(client: WebSocket): void {
  const words = 'Internal error occurred: unable to upgrade connection: container not found ("sandbox")';
  send(
    client,
    3,
    JSON.stringify({ metadata: {}, status: 'Failure', message: words, reason: 'InternalError', code: 500 }),
  );
  client.close(1000);
}

/** A command's three streams and a socket, each held back by the other. */
function relay(client: WebSocket, child: ChildProcess, faults: ExecFaults): void {
  const { stdin, stdout, stderr } = child;
  stdin?.on('error', () => {});
  client.on('message', (data: Buffer) => {
    const body = data.subarray(1);
    if (data[0] === 255 && body[0] === 0 && client.protocol === V5) stdin?.end();
    if (data[0] !== 0 || body.byteLength === 0 || stdin?.writableEnded) return;
    if (stdin?.write(body) === false) {
      client.pause();
      stdin.once('drain', () => client.resume());
    }
  });
  // As with a kubelet: the command goes on, its streams do not.
  client.on('close', () => {
    stdin?.destroy();
    stdout?.destroy();
    stderr?.destroy();
  });
  const drained = [stdout, stderr].map((stream, index) =>
    pump(client, stream as NodeJS.ReadableStream, index + 1),
  );
  const ended = new Promise<number>((resolve) => {
    child.once('exit', (code) => resolve(code ?? 137));
    child.once('error', () => resolve(127));
  });
  void Promise.all([ended, ...drained]).then(([code]) => {
    if (client.readyState !== client.OPEN) return;
    if (!faults.noStatus) send(client, 3, statusFrame(code as number));
    client.close(1000);
  });
}

async function pump(client: WebSocket, stream: NodeJS.ReadableStream, channel: number): Promise<void> {
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      await new Promise<void>((resolve) => {
        client.send(Buffer.concat([Buffer.of(channel), chunk]), () => resolve());
      });
    }
  } catch {
    // The socket is gone, and the stream with it.
  }
}

function statusFrame(code: number): string {
  if (code === 0) return JSON.stringify({ metadata: {}, status: 'Success' });
  return JSON.stringify({
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: command terminated with exit code ${code}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  });
}

function send(client: WebSocket, channel: number, text: string): void {
  client.send(Buffer.concat([Buffer.of(channel), Buffer.from(text)]));
}
