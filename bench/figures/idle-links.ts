import { randomUUID } from 'node:crypto';
import { WebSocket } from 'ws';
import { parseCredential } from '../../shared/credential.ts';
import type { CryptoKey } from '../../shared/jose.ts';
import { importSigningKey } from '../../shared/key-set.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import { FROM_GATEWAY } from '../../shared/messages.ts';
import { signProof } from '../../shared/proof.ts';
import { type Front, residentBytes, startFront } from '../processes.ts';
import type { Row } from '../row.ts';

const LINKS = 2_000;
const AT_ONCE = 50;
const KB = 1_024;
const SETTLE_MS = 3_000;
const TEMPLATES = 'templates: [{name: default, pool: {min: 1, max: 1}}]\n';

/** What a link that does nothing but heartbeats costs the gateway; each link is an instance of its own. */
export async function idleLinks(): Promise<Row[]> {
  await using front = await startFront({ templates: TEMPLATES, warm: ['default'] });
  const warmUp = await open(front, 100);
  await settle();
  const before = residentBytes(front.gateway);
  const links = await open(front, LINKS);
  await settle();
  const after = residentBytes(front.gateway);
  for (const socket of [...links, ...warmUp]) socket.terminate();
  const value = (after - before) / LINKS / KB;
  return [
    {
      name: 'idle link at the gateway',
      figure: `${value.toFixed(1)} KB, ${LINKS} links`,
      baseline: `${(before / 1_048_576).toFixed(0)} MB before`,
      value,
    },
  ];
}

async function open(front: Front, count: number): Promise<WebSocket[]> {
  const { token, key } = parseCredential(front.token);
  const { key: signingKey } = await importSigningKey(key);
  const links: WebSocket[] = [];
  let left = count;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (left-- > 0) links.push(await join(front.url, token, signingKey));
    }),
  );
  return links;
}

/** Resolves at WELCOME. */
function join(url: string, token: string, key: CryptoKey): Promise<WebSocket> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/agents/link`, 'podgate.v1', {
    perMessageDeflate: false,
  });
  socket.binaryType = 'nodebuffer';
  const instance = randomUUID();
  return new Promise((resolve, reject) => {
    const peer = new LinkPeer({
      socket: { send: (message, sent) => socket.send(message, sent) },
      schemas: FROM_GATEWAY,
      channels: [0],
      peerOpens: true,
      now: () => performance.now(),
      handlers: {
        control: ({ name, body }) => {
          if (name === 'CHALLENGE') void hello(body.nonce);
          else if (name === 'WELCOME') resolve(socket);
          else if (name === 'HEARTBEAT' && body.reply)
            peer.control('HEARTBEAT', 0, { id: body.id, reply: false, echo: body.id, running: 0 });
        },
        data: () => undefined,
        fault: (fault) => reject(new Error(fault.detail)),
      },
    });
    const hello = async (nonce: string) => {
      const time = Date.now();
      const signature = await signProof(key, { nonce, origin: url, instance, timeMs: time });
      const versions = { min_version: 1, max_version: 1 };
      peer.control('HELLO', 0, {
        ...versions,
        token,
        instance,
        time,
        signature,
        software: 'bench',
        clusters: ['bench'],
      });
      peer.joined = true;
    };
    socket.on('message', (message: Buffer) => peer.receive(message));
    socket.on('error', reject);
    socket.on('close', (code) => reject(new Error(`the gateway closed with ${code}`)));
  });
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}
