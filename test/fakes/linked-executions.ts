import { createExecutions, type Executions } from '../../agent/executions/executions.ts';
import { createLinkStreams, type GatewayMessage } from '../../agent/link/link-streams.ts';
import type { LinkHandlers } from '../../gateway/link/link-socket.ts';
import { LinkPeer } from '../../shared/link-peer.ts';
import { FROM_GATEWAY, type FromAgent, type FromGateway } from '../../shared/messages.ts';
import type { AgentIdentity } from './agent-identity.ts';
import { createFakeBackend } from './fake-backend.ts';
import type { FakeClock } from './fake-clock.ts';
import type { FakeRun } from './fake-runner.ts';
import { announceCluster, type Door } from './mock-agent.ts';
import { createQuietPool } from './quiet-pool.ts';

const SLOTS = 4;

/** An agent's own executions over links in memory: all that is not the agent's is its sandboxes and its sockets. */
export type LinkedExecutions = {
  readonly executions: Executions;
  /** Everything that a sandbox was asked to run. */
  readonly runs: FakeRun[];
  readonly links: readonly { cut(): void }[];
  /** Another link of the same instance; resolves when it has joined. */
  link(): Promise<void>;
};

export async function createLinkedExecutions(
  door: Door,
  { identity, clock }: { identity: AgentIdentity; clock: FakeClock },
): Promise<LinkedExecutions> {
  const runs: FakeRun[] = [];
  const backend = createFakeBackend();
  backend.onRunner = (runner) => {
    runner.onRun = (run) => void runs.push(run);
  };
  const pool = await createQuietPool(backend, clock, { languages: ['python'], pool: { min: 2, max: 4 } });
  const executions = createExecutions({
    clock,
    policy: {
      maxOutputBytes: 1_000_000_000,
      hasCluster: (name) => name === 'lab',
      findPool: (cluster, name) => (cluster === 'lab' && name === 'default' ? pool : undefined),
    },
    onReport: () => {},
    onChange: () => {},
  });
  const links = new Set<{ cut(): void }>();

  async function link(): Promise<void> {
    const joined = Promise.withResolvers<void>();
    let isDown = false;
    const cut = () => {
      if (isDown) return;
      isDown = true;
      links.delete(own);
      streams.lose();
      handlers.closed();
    };
    const own = { cut };
    const handlers: LinkHandlers = door.acceptLink({
      send: (message, sent) =>
        queueMicrotask(() => {
          if (!isDown) peer.receive(message);
          sent();
        }),
      close: cut,
      terminate: cut,
    });
    const send = <Name extends keyof FromAgent>(name: Name, body: FromAgent[Name]) =>
      peer.control(name, 0, body);
    async function greet({ nonce }: FromGateway['CHALLENGE']): Promise<void> {
      const proof = await identity.prove(nonce, 'instance-1', clock.wall());
      const software = { min_version: 1, max_version: 1, software: 'linked/1', clusters: ['lab'] };
      send('HELLO', { ...software, token: identity.token, instance: 'instance-1', ...proof });
    }
    const peer: LinkPeer<typeof FROM_GATEWAY> = new LinkPeer({
      socket: {
        send: (message, sent) =>
          queueMicrotask(() => {
            if (!isDown) handlers.message(message);
            sent();
          }),
      },
      schemas: FROM_GATEWAY,
      channels: [0],
      peerOpens: true,
      now: () => clock.now(),
      handlers: {
        control({ name, body }, stream) {
          if (name === 'CHALLENGE') void greet(body as FromGateway['CHALLENGE']);
          else if (name === 'WELCOME') {
            const granted = [{ cluster: 'lab', template: 'default', granted: SLOTS }];
            send('SLOTS', { grants: granted, clusters: [announceCluster()] });
            joined.resolve();
          } else streams.message({ name, body } as GatewayMessage, stream);
        },
        data: (stream, _channel, _offset, bytes) => streams.data(stream, bytes),
        room: (stream) => streams.room(stream),
        gone: (stream) => streams.gone(stream),
        fault: ({ detail }) => {
          throw new Error(`the gateway broke the protocol: ${detail}`);
        },
      },
    });
    peer.joined = true;
    const broke = (detail: string) => {
      throw new Error(`the gateway broke the protocol: ${detail}`);
    };
    const streams = createLinkStreams({ peer, executions, broke, onStart: () => {} });
    links.add(own);
    await joined.promise;
  }

  return {
    executions,
    runs,
    get links() {
      return [...links];
    },
    link,
  };
}
