import { createHash } from 'node:crypto';
import { afterEach, expect, test, vi } from 'vitest';
import type { NumberedEvent } from '../../client/types.ts';
import type { FleetAgent, FleetGateway } from '../fakes/fleet.ts';
import { counted } from '../fakes/run-counter.ts';
import { until } from '../fakes/until.ts';
import { ask, describeFleet } from './suite.ts';

const PATIENCE_MS = 60_000;
const LINES = 9_000;
const digest = (text: string) => createHash('sha256').update(text).digest('hex');
const PRINTED = Array.from({ length: LINES }, (_, line) => `${line} é ${digest(String(line))}\n`).join('');
const PRINTS = `
import hashlib, sys, time
for line in range(${LINES}):
    print(line, 'é', hashlib.sha256(str(line).encode()).hexdigest())
    if line % 1000 == 0: time.sleep(0.1)
`;

describeFleet(
  'An execution that outlives its caller',
  {
    gateways: 2,
    agents: [{ cluster: 'lab' }],
    templates: [{ name: 'default', pool: { min: 1, max: 3 } }],
    variables: { PODGATE_HEARTBEAT_MS: '1000' },
  },
  (fleet) => {
    vi.setConfig({ testTimeout: PATIENCE_MS });
    const [first, second] = [0, 1].map((at) => () => fleet().gateways[at] as FleetGateway) as [
      () => FleetGateway,
      () => FleetGateway,
    ];
    const wire = () => (fleet().agents[0] as FleetAgent).wire;
    afterEach(() => {
      fleet().balancer.setTargets(fleet().gateways);
      return fleet().ready();
    }, PATIENCE_MS);

    async function startDetached(code: string) {
      const name = crypto.randomUUID();
      const id = await fleet()
        .client(first())
        .start({ code: counted(fleet().counter.at, name) + code, timeout_ms: 30_000 });
      return { id, runs: () => fleet().counter.count(name) };
    }

    async function readAll(events: AsyncIterable<NumberedEvent>, at: (chars: number) => void = () => {}) {
      const seen: NumberedEvent[] = [];
      let text = '';
      for await (const event of events) {
        seen.push(event);
        if (event.type === 'output') text += event.data;
        at(text.length);
      }
      return { seen, text };
    }

    test('is read whole, from any event on, through the replica that did not start it', async () => {
      const { id, runs } = await startDetached(PRINTS);
      for (const gateway of [second(), first()]) {
        const { seen, text } = await readAll(fleet().client(gateway).executions.events(id));
        expect(digest(text)).toBe(digest(PRINTED));
        expect(seen.at(-1)).toMatchObject({ type: 'result', exit_code: 0, execution_id: id });
        const middle = seen[Math.floor(seen.length / 2)] as NumberedEvent;
        const had = seen.slice(0, seen.indexOf(middle) + 1);
        const rest = await readAll(
          fleet()
            .client(gateway)
            .executions.events(id, { lastEventId: middle.id as string }),
        );
        const textOf = (events: NumberedEvent[]) =>
          events.map((event) => (event.type === 'output' ? event.data : '')).join('');
        expect(digest(textOf(had) + rest.text)).toBe(digest(PRINTED));
      }
      expect(await fleet().client(second()).executions.get(id)).toMatchObject({ state: 'ended' });
      expect(runs()).toBe(1);
    });

    test('outlives the gateway that was asked for it: another replica tells all of it', async () => {
      const { id, runs } = await startDetached(PRINTS);
      first().kill('SIGKILL');
      const { seen, text } = await readAll(fleet().client(second()).executions.events(id));
      expect(digest(text)).toBe(digest(PRINTED));
      expect(seen.at(-1)).toMatchObject({ type: 'result', exit_code: 0 });
      expect(runs()).toBe(1);
    });

    test('outlives a gateway that is shut down under it', async () => {
      const { id } = await startDetached(PRINTS);
      first().kill('SIGTERM');
      expect(await first().ended()).toBe(0);
      const { text } = await readAll(fleet().client(second()).executions.events(id));
      expect(digest(text)).toBe(digest(PRINTED));
    });

    test('is read whole by a client whose gateway is shut down under it, over the address of both', async () => {
      const { id, runs } = await startDetached('import time; print("begun"); time.sleep(5); print("over")');
      fleet().balancer.setTargets([first()]);
      const { text } = await readAll(fleet().client().executions.events(id), (chars) => {
        if (chars !== 'begun\n'.length) return;
        fleet().balancer.setTargets([second()]);
        first().kill('SIGTERM');
      });
      expect([text, await first().ended(), runs()]).toEqual(['begun\nover\n', 0, 1]);
    });

    test('is read whole though its links are cut under its readers', async () => {
      const { id, runs } = await startDetached(PRINTS);
      let cuts = 0;
      const cutAt = (chars: number) => {
        if (chars < (cuts + 1) * 150_000 || cuts >= 2) return;
        cuts += 1;
        wire().cut();
      };
      const readings = [first(), second()].map((gateway, at) =>
        readAll(fleet().client(gateway).executions.events(id), at === 0 ? cutAt : undefined),
      );
      for (const { text } of await Promise.all(readings)) expect(digest(text)).toBe(digest(PRINTED));
      expect([cuts, runs()]).toEqual([2, 1]);
    });

    test('is nothing to another principal, through either replica', async () => {
      const { id } = await startDetached('import time; time.sleep(5)');
      const key = await fleet().callerKey('other');
      for (const gateway of [first(), second()])
        for (const path of ['', '/events']) {
          const answer = await fetch(`${gateway.url}/v1/executions/${id}${path}`, {
            headers: { authorization: `Bearer ${key}` },
          });
          expect(answer.status).toBe(404);
        }
      await fleet().client(second()).executions.cancel(id);
      expect(await fleet().client(first()).executions.get(id)).toMatchObject({
        state: 'ended',
        result: { outcome: 'cancelled' },
      });
    });

    test('runs once, however many ask for it with one key at once, and each is told the same', async () => {
      const name = crypto.randomUUID();
      const code = `${counted(fleet().counter.at, name)}import time; time.sleep(1); print("once")`;
      const client = fleet().client(first());
      const asked = Array.from({ length: 6 }, () =>
        client.execute({ code, timeout_ms: 20_000 }, { idempotencyKey: name }),
      );
      const answers = await Promise.all(asked);
      for (const answer of answers) expect(answer).toEqual(answers[0]);
      expect([answers[0]?.stdout, fleet().counter.count(name)]).toEqual(['once\n', 1]);
      expect(await client.execute({ code, timeout_ms: 20_000 }, { idempotencyKey: name })).toEqual(
        answers[0],
      );
      expect(fleet().counter.count(name)).toBe(1);
    });

    test('runs once with one key, asked for through two replicas at once, and told by a third that was just started', async () => {
      const name = crypto.randomUUID();
      const code = `${counted(fleet().counter.at, name)}import time; time.sleep(1); print("once")`;
      const askAt = (gateway: FleetGateway) =>
        fleet().client(gateway).execute({ code, timeout_ms: 20_000 }, { idempotencyKey: name });
      const answers = await Promise.all([first(), second(), first(), second()].map(askAt));
      second().kill('SIGKILL');
      await second().ended();
      await fleet().ready();
      answers.push(await askAt(second()));
      for (const answer of answers)
        expect([answer.stdout, answer.execution_id]).toEqual(['once\n', answers[0]?.execution_id]);
      expect(fleet().counter.count(name)).toBe(1);
    });

    test('with a key goes on when its caller leaves, and tells whoever asks again', async () => {
      const asked = ask(fleet(), 'import time; time.sleep(1); print("kept")', {
        gateway: first(),
        timeout_ms: 20_000,
        headers: { 'idempotency-key': 'left' },
      });
      await until(() => asked.runs() === 1);
      asked.leave();
      const again = asked.again();
      expect((await again.answer).body.stdout).toBe('kept\n');
      expect(asked.runs()).toBe(1);
    });
  },
);
