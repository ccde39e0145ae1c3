import { expect, test } from 'vitest';
import type { Problem } from '../../shared/errors.ts';
import { describeStack } from './suite.ts';

describeStack('An execution that is asked about by its id', {}, (stack) => {
  test('is known to its caller while it runs and after its end', async () => {
    const response = await stack().post('/v1/execute/stream', {
      code: 'print("go", flush=True)\nimport time; time.sleep(0.3); raise SystemExit(3)',
    });
    const id = response.headers.get('podgate-execution-id') ?? '';
    const now = Date.now() / 1000;
    const during = await stack().podgate.executions.get(id);
    expect(during).toMatchObject({
      execution_id: id,
      cluster: 'local',
      state: 'started',
      result: null,
      ended_at: null,
    });
    expect(Math.abs((during.started_at ?? 0) - now)).toBeLessThan(5);
    await response.text();
    const after = await stack().podgate.executions.get(id);
    expect(after).toMatchObject({
      state: 'ended',
      failure: null,
      result: {
        outcome: 'exited',
        exit_code: 3,
        signal: null,
        timed_out: false,
        stdout_bytes: 3,
        stderr_bytes: 0,
      },
    });
    expect(after.ended_at).toBeGreaterThanOrEqual(after.started_at ?? Infinity);
  });

  test('is nothing to anybody else: another principal, another end user, a made-up id', async () => {
    const { execution_id } = await stack().run('1');
    const path = `/v1/executions/${execution_id}`;
    expect((await stack().fetch(path)).status).toBe(200);
    const other = await stack().key();
    const half = execution_id.slice(0, -2);
    for (const [at, headers] of [
      [path, { authorization: `Bearer ${other}` }],
      [path, { 'podgate-user': 'anna' }],
      [`/v1/executions/${half}`, {}],
      ['/v1/executions/none', {}],
    ] as const) {
      for (const method of ['GET', 'DELETE']) {
        const response = await stack().fetch(at, { method, headers });
        expect([method, at.length, response.status, ((await response.json()) as Problem).code]).toEqual([
          method,
          at.length,
          404,
          'not_found',
        ]);
      }
    }
  });

  test('is nothing to a key of its principal that may not use its cluster', async () => {
    await using held = await stack().hold();
    const key = await stack().key({ sub: 'own', clusters: ['elsewhere'] });
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const body = JSON.stringify({ signal: 'SIGKILL' });
    for (const [method, path, init] of [
      ['GET', '', {}],
      ['GET', '/events', {}],
      ['DELETE', '', {}],
      ['POST', '/stdin', { body }],
      ['POST', '/signal', { body }],
    ] as const) {
      const at = `/v1/executions/${held.executionId}${path}`;
      const response = await stack().fetch(at, { method, headers, ...init });
      expect([path, response.status, await response.json()]).toMatchObject([
        path,
        404,
        { code: 'not_found' },
      ]);
    }
    expect(held.alive()).toBe(1);
  });

  test('ends when it is cancelled, with all that it started, and its stream says so', async () => {
    await using held = await stack().hold();
    expect(held.alive()).toBe(1);
    const cancel = async () => {
      const answer = await stack().fetch(`/v1/executions/${held.executionId}`, { method: 'DELETE' });
      return [answer.status, ((await answer.json()) as { retryable?: boolean }).retryable];
    };
    const first = await cancel();
    // An agent that has two seconds to answer may miss them on a machine with much to do: then it may be asked again.
    if (first[0] === 502) await expect.poll(cancel, { timeout: 20_000 }).toEqual([200, undefined]);
    else expect(first).toEqual([200, undefined]);
    const last = await held.last;
    expect(held.alive()).toBe(0);
    const known = await stack().podgate.executions.get(held.executionId);
    expect(known.state).toBe('ended');
    if (last.event === 'result') {
      const end = { outcome: 'cancelled', exit_code: null, timed_out: false, stdout_bytes: 6 };
      expect([last.data, known.result]).toMatchObject([end, { outcome: 'cancelled' }]);
    } else {
      // A runner that the machine did not let speak for two seconds: its sandbox was discarded with all in it.
      expect([last.data, known.failure]).toMatchObject([
        { code: 'cancelled', started: 'yes' },
        { code: 'cancelled' },
      ]);
    }
  });

  test('may be cancelled again and after its end, without harm', async () => {
    const { execution_id } = await stack().run('print(1)');
    for (const _ of [1, 2]) await stack().podgate.executions.cancel(execution_id);
    expect(await stack().podgate.executions.get(execution_id)).toMatchObject({
      result: { outcome: 'exited' },
    });
  });

  test('is told by its agent alone: where that is gone it is said so', async () => {
    const agent = await stack().startAgent({ cluster: 'second' });
    await stack().warm(['second']);
    const { execution_id } = await stack().run('1', { cluster: 'second' });
    await agent.close();
    const response = await stack().fetch(`/v1/executions/${execution_id}`);
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ code: 'no_agent' });
  });
});
