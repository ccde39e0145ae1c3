import { randomUUID } from 'node:crypto';
import { systemClock } from '../agent/clock.ts';
import { createProver } from '../agent/credential.ts';
import { createExecutions } from '../agent/executions/executions.ts';
import { dial } from '../agent/link/dial.ts';
import { createLink, type Link } from '../agent/link/link.ts';
import { createLinkSet, type LinkSet } from '../agent/link/link-set.ts';
import { createPeers } from '../agent/link/peers.ts';
import { Secret } from '../shared/secret.ts';
import { announceCluster } from '../test/fakes/mock-agent.ts';

const CLUSTER = 'crowd';
const SOFTWARE = 'podgate/bench';
const START_EVERY_MS = 2;

/** Agents that have links and nothing else: the real code of both ends, in one process. */
export type AgentCrowd = Disposable & {
  /** Links that have joined and not ended. */
  readonly links: number;
  /** When each dial was made, in ms of the process's clock. */
  readonly dials: readonly number[];
};

export type AgentCrowdOptions = {
  agents: number;
  gatewayUrl: string;
  /** The credential of the n-th agent. */
  token: (index: number) => string;
};

/** Starts them one after the other; they keep their links as any agent does, whatever becomes of the gateway. */
export async function startAgentCrowd({ agents, gatewayUrl, token }: AgentCrowdOptions): Promise<AgentCrowd> {
  const joined = new Set<Link>();
  const dials: number[] = [];
  const sets: LinkSet[] = [];
  for (let index = 0; index < agents; index += 1) {
    sets.push(startOne(gatewayUrl, new Secret(token(index)), joined, dials));
    await new Promise((resolve) => setTimeout(resolve, START_EVERY_MS));
  }
  return {
    get links() {
      return joined.size;
    },
    dials,
    [Symbol.dispose]() {
      for (const set of sets) set.close();
    },
  };
}

function startOne(gatewayUrl: string, credential: Secret, joined: Set<Link>, dials: number[]): LinkSet {
  const clock = systemClock;
  const instance = randomUUID();
  const url = new URL(gatewayUrl);
  const log = () => {};
  const clusters = () => [CLUSTER];
  const prove = createProver({
    credential: () => credential,
    clusters,
    gatewayUrl: url,
    instance,
    clock,
    log,
  });
  const executions = createExecutions({
    clock,
    policy: { maxOutputBytes: 0, hasCluster: () => false, findPool: () => undefined },
    onChange: () => {},
    onReport: () => {},
  });
  const peers = createPeers(clock);
  const set = createLinkSet({
    clock,
    random: Math.random,
    log,
    onJoined(link) {
      joined.add(link);
      link.send('SLOTS', { grants: [], clusters: [announceCluster({ name: CLUSTER })] });
    },
    onGone: (link) => void joined.delete(link),
    connect: (handlers) =>
      createLink({
        ...handlers,
        dial() {
          dials.push(performance.now());
          return dial({ url, software: SOFTWARE });
        },
        prove,
        instance,
        software: SOFTWARE,
        clusters: [CLUSTER],
        executions,
        peers,
        clock,
        log: () => {},
        onStart: () => {},
      }),
  });
  set.start();
  return set;
}
