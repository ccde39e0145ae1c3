import { expect, test } from 'vitest';
import type { PodgateError } from '../../client/podgate.ts';
import type { Problem } from '../../shared/errors.ts';
import { describeStack } from './suite.ts';

const ONE_SANDBOX = { templates: [{ name: 'default', pool: { min: 1, max: 1 } }] };

describeStack('A cluster whose only sandbox is taken', ONE_SANDBOX, (stack) => {
  test('answers 503 with Retry-After when the wait of the request is over', async () => {
    await using _held = await stack().hold();
    const began = Date.now();
    const response = await stack().post('/v1/execute', { code: '1', queue_timeout_ms: 200 });
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(await response.json()).toMatchObject({ code: 'at_capacity', retryable: true, status: 503 });
    expect(Date.now() - began).toBeGreaterThanOrEqual(199);
    // Requests that say nothing wait so long.
    expect(Date.now() - began).toBeLessThan(5_000);
  });

  test('answers at once where a request will not wait', async () => {
    await using _held = await stack().hold();
    const response = await stack().post('/v1/execute/stream', { code: '1', queue_timeout_ms: 0 });
    expect([response.status, response.headers.get('content-type')]).toEqual([
      503,
      'application/problem+json',
    ]);
  });

  test('runs what waits as soon as it is free, and says how long it waited', async () => {
    await using held = await stack().hold();
    const waiting = stack().run('1');
    await expect.poll(() => stack().gateway.gateway.status().queued, { interval: 2 }).toBe(1);
    await held.leave();
    const { stdout, queue_ms } = await waiting;
    expect(stdout).toBe('1\n');
    expect(queue_ms).toBeGreaterThan(0);
  });

  test("does not count the wait into the program's time", async () => {
    await using held = await stack().hold();
    const waiting = stack().run('import time; time.sleep(0.2)', { timeout_ms: 1_500 });
    await new Promise((resolve) => setTimeout(resolve, 1_550));
    await held.leave();
    expect(await waiting).toMatchObject({ timed_out: false, exit_code: 0 });
  });

  test('serves two principals in turn, however much one of them has asked for first', async () => {
    const [many, one] = await Promise.all([stack().client({ sub: 'many' }), stack().client({ sub: 'one' })]);
    await using held = await stack().hold();
    const order: string[] = [];
    const ask = (name: string, client: typeof many) =>
      client.execute({ code: '1', queue_timeout_ms: 20_000 }).then(() => order.push(name));
    const first = Array.from({ length: 8 }, () => ask('many', many));
    const queued = () => stack().gateway.gateway.status().queued;
    await expect.poll(queued, { interval: 2 }).toBe(8);
    const second = Array.from({ length: 2 }, () => ask('one', one));
    await expect.poll(queued, { interval: 2 }).toBe(10);
    await held.leave();
    await Promise.all([...first, ...second]);
    expect(order.slice(0, 4).sort()).toEqual(['many', 'many', 'one', 'one']);
  });

  test('forgets a caller who went away while it waited', async () => {
    await using _held = await stack().hold();
    const leaving = new AbortController();
    const waiting = stack().podgate.execute('1', { signal: leaving.signal });
    await expect.poll(() => stack().gateway.gateway.status().queued, { interval: 2 }).toBe(1);
    leaving.abort();
    await expect(waiting).rejects.toThrow(/abort/i);
    await expect
      .poll(() => stack().gateway.gateway.status(), { interval: 2 })
      .toMatchObject({ queued: 0, running: 1 });
  });

  test('gives its sandbox to the next when a caller goes away, and nothing of the program lives on', async () => {
    await using held = await stack().hold();
    expect(held.alive()).toBe(1);
    await held.leave();
    await expect.poll(held.alive, { interval: 2 }).toBe(0);
    expect(await stack().run('1')).toMatchObject({ stdout: '1\n' });
  });
});

describeStack('The ceilings of a key', { variables: { POOL_SIZE: '3' } }, (stack) => {
  test('on concurrency answer 429 with Retry-After, and count its end users together', async () => {
    const key = await stack().key({ sub: 'alice', limits: { concurrency: 1 } });
    const request = (user: string) =>
      stack().post('/v1/execute', { code: '1' }, { authorization: `Bearer ${key}`, 'podgate-user': user });
    {
      await using _held = await stack().hold({}, { key, headers: { 'podgate-user': 'anna' } });
      const refused = await request('bert');
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
      expect(await refused.json()).toMatchObject({ code: 'rate_limited', retryable: true });
      // Another key of another subject is not held back by it.
      expect((await stack().post('/v1/execute', { code: '1' })).status).toBe(200);
    }
    await expect.poll(async () => (await request('bert')).status).toBe(200);
  });

  test('on requests a minute answer 429 with the time to wait', async () => {
    const client = await stack().client({ limits: { requests_per_minute: 3 } });
    const codes: unknown[] = [];
    for (let count = 0; count < 4; count += 1)
      codes.push(
        await client.clusters.list().then(
          () => 'ok',
          (error: PodgateError) => [error.status, error.code],
        ),
      );
    expect(codes).toEqual(['ok', 'ok', 'ok', [429, 'rate_limited']]);
  });

  test('on time lower the default and refuse what asks for more', async () => {
    const client = await stack().client({ limits: { timeout_ms: 250 } });
    const ran = await client.execute('import time; time.sleep(9)');
    expect(ran.timed_out).toBe(true);
    expect(ran.duration_ms).toBeLessThan(2_000);
    await expect(client.execute({ code: '1', timeout_ms: 251 })).rejects.toMatchObject({
      status: 422,
      errors: [{ path: 'timeout_ms', message: 'timeout_ms exceeds maximum of 250 ms' }],
    });
  });

  test('on memory hold whatever the request says', async () => {
    const client = await stack().client({ limits: { memory_mb: 64 } });
    const ran = await client.execute({ code: 'bytearray(100 << 20); None', limits: { memory_mb: 200 } });
    expect([ran.exit_code, ran.stderr]).toEqual([1, expect.stringMatching(/MemoryError/)]);
  });

  test('on files refuse an upload past them and leave out results past them', async () => {
    const client = await stack().client({ limits: { file_count: 2, file_bytes: 1_000 } });
    await client.files.upload('x', { filename: 'one' });
    await expect(client.files.upload('x'.repeat(1_000), { filename: 'two' })).rejects.toMatchObject({
      status: 413,
    });
    const ran = await client.execute('for name in "ab": open(name, "w").write(name)\n');
    expect([ran.files.length, ran.files_omitted]).toEqual([1, [{ path: 'b', reason: 'no_room' }]]);
  });
});

const SMALL = {
  name: 'default',
  languages: ['python' as const],
  resources: { timeout_ms: 400, cpu_seconds: 1, memory_mb: 128 },
  pool: { min: 1, max: 2 },
};

describeStack(
  "A template's limits",
  { templates: [SMALL], variables: { MAX_OUTPUT_BYTES: '500' } },
  (stack) => {
    test('can only be lowered by a request', async () => {
      const ask = (code: string, limits: object, rest: object = {}) => stack().run(code, { limits, ...rest });
      const longer = await ask('import time; time.sleep(9)', {}, { timeout_ms: 30_000 });
      expect([longer.timed_out, longer.duration_ms < 5_000]).toEqual([true, true]);
      const larger = await ask('bytearray(200 << 20); None', { memory_mb: 4_096 });
      expect(larger.stderr).toMatch(/MemoryError/);
      const smaller = await ask('bytearray(100 << 20); None', { memory_mb: 64 });
      expect(smaller.stderr).toMatch(/MemoryError/);
      expect(await ask('bytearray(64 << 20); None', { memory_mb: 100 })).toMatchObject({ exit_code: 0 });
      const output = await ask('print("x" * 1000)', { max_output_bytes: 1_000_000 });
      expect([output.stdout.length, output.stdout_truncated, output.stdout_bytes]).toEqual([
        500,
        true,
        1_001,
      ]);
      expect((await ask('print("x" * 1000)', { max_output_bytes: 20 })).stdout).toHaveLength(20);
      expect((await ask('print("x")', { max_output_bytes: 0 })).stdout).toBe('');
    });

    test.each([
      { memory_mb: 0 },
      { cpu_seconds: 1.5 },
      { max_output_bytes: -1 },
      { output_limit_bytes: '1' },
    ])('cannot be lowered to nonsense: %j', async (limits) => {
      const response = await stack().post('/v1/execute', { code: '1', limits });
      const { errors } = (await response.json()) as Problem;
      expect([response.status, errors?.[0]?.path]).toEqual([422, `limits.${Object.keys(limits)[0]}`]);
    });
  },
);
