import { describe, expect, test } from 'vitest';
import { COMEBACK_MS } from '../../gateway/clusters/instance.ts';
import type { FromAgent } from '../../shared/messages.ts';
import type { SessionAsk } from '../../shared/session-messages.ts';
import { createGatewayBench, problemOf } from '../fakes/gateway-bench.ts';
import type { MockAgent } from '../fakes/mock-agent.ts';
import { until } from '../fakes/until.ts';

/** A gateway, an agent that waits for work, and a session that it is asked to open. */
async function start() {
  const bench = await createGatewayBench();
  const identity = await bench.identity();
  const agent = await bench.agent({ identity });
  await bench.clock.settle();
  const leaving = new AbortController();
  const answer = bench.ask('/v1/sessions', { body: { ttl_seconds: 60 }, signal: leaving.signal });
  return { bench, identity, agent, answer, leaving, execution: await agent.next() };
}

const asksOf = ({ received }: MockAgent) =>
  received.filter(({ name }) => name === 'SESSION').map(({ body }) => body as SessionAsk);

async function asked(agent: MockAgent, action: SessionAsk['action']): Promise<SessionAsk> {
  await until(() => asksOf(agent).some((ask) => ask.action === action));
  return asksOf(agent).find((ask) => ask.action === action) as SessionAsk;
}

/** What an agent says of a session that has just begun. */
function stateOf({ ref, session_id }: SessionAsk): FromAgent['SESSION'] {
  const session = {
    session_id: session_id ?? '',
    cluster: 'lab',
    template: 'default',
    created_ms_ago: 0,
    expires_in_ms: 60_000,
    idle_ms: null,
    running: 0,
    terminals: [],
  };
  return { ref, sessions: [session], total: 1 };
}

describe('a session whose agent loses its links once it has begun', () => {
  test('is told when one is back, and not a second one begun by whoever is told to try again', async () => {
    const { bench, identity, agent, answer, execution } = await start();
    execution.succeed();
    await asked(agent, 'get');
    agent.cut();
    await bench.clock.settle();
    const back = await bench.agent({ identity });
    const ask = await asked(back, 'get');
    back.send('SESSION', stateOf(ask));
    const response = await answer;
    expect(response.status).toBe(201);
    expect(await response.json()).toMatchObject({ session_id: ask.session_id, running: 0 });
  });

  test('is agent_lost with started yes where none comes back: clients do not ask for it again', async () => {
    const { bench, agent, answer, execution } = await start();
    execution.succeed();
    await asked(agent, 'get');
    agent.cut();
    await bench.clock.settle();
    await bench.clock.advance(COMEBACK_MS);
    const problem = await problemOf(await answer);
    expect(problem).toMatchObject({ status: 502, code: 'agent_lost', retryable: false, started: 'yes' });
  });
});

describe('a session whose caller went away', () => {
  test('before it began is ended once its beginning is over, whichever came first', async () => {
    const { agent, answer, leaving, execution } = await start();
    leaving.abort();
    await until(() => execution.cancelled !== undefined);
    execution.succeed();
    await asked(agent, 'end');
    const order = agent.received.map(({ name }) => name).filter((name) => /CANCEL|SESSION/.test(name));
    expect(order).toEqual(['CANCEL', 'CANCEL', 'SESSION']);
    await answer;
  });

  test('as it began is ended', async () => {
    const { agent, answer, leaving, execution } = await start();
    execution.succeed();
    const ask = await asked(agent, 'get');
    leaving.abort();
    agent.send('SESSION', stateOf(ask));
    expect(await asked(agent, 'end')).toMatchObject({ session_id: ask.session_id });
    await answer;
  });
});
