import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { FileStore } from '../../gateway/files/file-store.ts';
import { executeResponse } from '../../shared/api.ts';
import { STREAM_WINDOW_BYTES, TRUNCATION_MARKER } from '../../shared/limits.ts';
import { createGatewayBench, type GatewayBench, problemOf } from '../fakes/gateway-bench.ts';
import type { MockAgent } from '../fakes/mock-agent.ts';
import type { MockExecution } from '../fakes/mock-execution.ts';
import { until } from '../fakes/until.ts';

const agents = new WeakMap<GatewayBench, MockAgent>();

/** Asks for an execution and lets `run` be the agent. */
async function execute(
  bench: GatewayBench,
  request: object,
  run: (execution: MockExecution) => unknown,
): Promise<{ response: Response; execution: MockExecution }> {
  const agent = agents.get(bench) ?? (await bench.agent());
  agents.set(bench, agent);
  const answer = bench.ask('/v1/execute', { body: { code: 'print(1)', ...request } });
  const execution = await agent.next();
  await run(execution);
  return { response: await answer, execution };
}

/** A store that opens files in its own way, and does the rest as the one below it. */
const opening =
  (open: (below: FileStore, ...asked: Parameters<FileStore['open']>) => ReturnType<FileStore['open']>) =>
  (store: FileStore): FileStore => ({
    create: (owner, options) => store.create(owner, options),
    stat: (owner, id) => store.stat(owner, id),
    list: (owner, options) => store.list(owner, options),
    delete: (owner, id) => store.delete(owner, id),
    usage: (owner) => store.usage(owner),
    open: (...asked) => open(store, ...asked),
  });

describe('an execution that ends', () => {
  test('answers with its output, its end and where it ran', async () => {
    const bench = await createGatewayBench();
    const { response, execution } = await execute(bench, {}, (run) =>
      run.begin().out('1\n').err('oh').exit(),
    );
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('application/json');
    expect(response.headers.get('podgate-execution-id')).toBe(execution.id);
    const body = executeResponse.parse(await response.json());
    expect(body).toEqual({
      stdout: '1\n',
      stderr: 'oh',
      exit_code: 0,
      timed_out: false,
      duration_ms: 12,
      files: [],
      execution_id: execution.id,
      cluster: 'lab',
      outcome: 'exited',
      signal: null,
      stdout_bytes: 2,
      stderr_bytes: 2,
      stdout_truncated: false,
      stderr_truncated: false,
      queue_ms: 0,
      cpu_ms: 5,
      peak_memory_bytes: 1_000_000,
      files_omitted: [],
      files_omitted_count: 0,
    });
  });

  test('that has no output and no STDIN gives empty texts', async () => {
    const bench = await createGatewayBench();
    const { response } = await execute(bench, {}, (run) => run.begin().exit());
    expect(await response.json()).toMatchObject({ stdout: '', stderr: '' });
  });

  test.for([
    { outcome: 'exited', exit_code: 3 },
    { outcome: 'signaled', exit_code: 139, signal: 11 },
    { outcome: 'timed_out', exit_code: null, timed_out: true, signal: 9 },
    { outcome: 'cpu_limit', exit_code: 152, signal: 24 },
    { outcome: 'memory_limit', exit_code: 137, signal: 9 },
    { outcome: 'output_limit', exit_code: 137, signal: 9 },
    { outcome: 'cancelled', exit_code: null },
  ] as const)('with outcome $outcome is a 200', async (end) => {
    const bench = await createGatewayBench();
    const { response } = await execute(bench, {}, (run) => run.begin().exit(end));
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject(end);
  });

  test('is reported once, without code or output', async () => {
    const bench = await createGatewayBench();
    const { execution } = await execute(bench, { code: 'secret()' }, (run) =>
      run.begin().out('hidden').exit(),
    );
    await expect.poll(() => bench.records.length).toBe(1);
    const [record] = bench.records;
    expect(record).toMatchObject({
      execution_id: execution.id,
      tenant: 'acme',
      principal: 'acme/alice',
      key_id: 'token-1',
      code_sha256: createHash('sha256').update('secret()').digest('hex'),
      cluster: 'lab',
      instance: 'instance-1',
      template: 'default',
      outcome: 'exited',
      code: null,
      started: 'yes',
      attempts: 1,
      stdout_bytes: 6,
    });
    expect(JSON.stringify(record)).not.toMatch(/secret|hidden/);
    expect(bench.gateway.status()).toMatchObject({ running: 0, queued: 0, requestBytes: 0, outputBytes: 0 });
  });
});

describe('START and input', () => {
  test('carry what was asked for, defaults where nothing was', async () => {
    const bench = await createGatewayBench();
    const { execution } = await execute(bench, {}, (run) => run.succeed());
    expect(execution.start).toMatchObject({
      tenant: 'acme',
      principal: 'acme/alice',
      traceparent: null,
      cluster: 'lab',
      template: 'default',
      language: 'python',
      last_line_interactive: true,
      limits: {
        timeout_ms: 2000,
        max_output_bytes: 1_000_000,
        memory_mb: null,
        cpu_seconds: null,
        output_limit_bytes: null,
      },
      concurrency: null,
      detach: false,
    });
    expect(await execution.input()).toEqual({
      manifest: { args: [], env: {}, files: [] },
      code: 'print(1)',
      stdin: '',
      files: '',
    });
  });

  test('carry every member of the request', async () => {
    const bench = await createGatewayBench();
    const request = {
      code: 'é',
      stdin: 'in',
      timeout_ms: 60_000,
      last_line_interactive: false,
      language: 'bash',
      args: ['a', 'b'],
      env: { A: '1' },
      limits: { memory_mb: 64, cpu_seconds: 1, max_output_bytes: 10, output_limit_bytes: 100 },
      files: [
        { path: './d//a.txt', content: 'one' },
        { path: 'b.bin', content_base64: btoa('two') },
      ],
      unknown: 'ignored',
    };
    const { execution } = await execute(bench, request, (run) => run.succeed());
    expect(execution.start).toMatchObject({
      language: 'bash',
      last_line_interactive: false,
      limits: {
        timeout_ms: 60_000,
        max_output_bytes: 10,
        memory_mb: 64,
        cpu_seconds: 1,
        output_limit_bytes: 100,
      },
    });
    expect(await execution.input()).toEqual({
      manifest: {
        args: ['a', 'b'],
        env: { A: '1' },
        files: [
          { path: 'd/a.txt', size: 3 },
          { path: 'b.bin', size: 3 },
        ],
      },
      code: 'é',
      stdin: 'in',
      files: 'onetwo',
    });
  });

  test('never ask for more output than the gateway allows', async () => {
    const bench = await createGatewayBench({ config: { maxOutputBytes: 500 } });
    const { execution } = await execute(bench, { limits: { max_output_bytes: 501 } }, (run) => run.succeed());
    expect(execution.start.limits.max_output_bytes).toBe(500);
  });

  test("carry the key's ceilings", async () => {
    const bench = await createGatewayBench();
    const key = await bench.key({ limits: { timeout_ms: 1_000, memory_mb: 128, concurrency: 3 } });
    const agent = await bench.agent();
    const answer = bench.ask('/v1/execute', { key, body: { code: '', limits: { memory_mb: 999 } } });
    const execution = await agent.next();
    expect(execution.start).toMatchObject({ limits: { timeout_ms: 1_000, memory_mb: 128 }, concurrency: 3 });
    execution.succeed();
    expect((await answer).status).toBe(200);
    const above = await bench.ask('/v1/execute', { key, body: { code: '', timeout_ms: 1_001 } });
    expect(await problemOf(above)).toMatchObject({
      status: 422,
      detail: 'timeout_ms exceeds maximum of 1000 ms',
    });
  });

  test('pass request id and trace context on, where they are sane', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent({ run: (run) => run.succeed() });
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const headers = { 'x-request-id': 'my-id.1', traceparent };
    const response = await bench.ask('/v1/execute', { headers, body: { code: '' } });
    expect(response.headers.get('x-request-id')).toBe('my-id.1');
    const [start] = agent.received.filter(({ name }) => name === 'START');
    expect(start?.body).toMatchObject({ request_id: 'my-id.1', traceparent });
    const odd = await bench.ask('/v1/execute', {
      headers: { 'x-request-id': 'a b', traceparent: 'nonsense' },
      body: { code: '' },
    });
    expect(odd.headers.get('x-request-id')).toMatch(/^[\w-]{20}$/);
    expect(agent.received.findLast(({ name }) => name === 'START')?.body).toMatchObject({
      traceparent: null,
    });
  });

  test('larger than the window arrive whole, as credit allows', async () => {
    const bench = await createGatewayBench();
    const code = 'x'.repeat(700_000);
    const { execution } = await execute(bench, { code, stdin: 'y'.repeat(300_000) }, async (run) => {
      const input = await run.input();
      expect(input.code).toBe(code);
      expect(input.stdin).toHaveLength(300_000);
      run.succeed();
    });
    expect(execution.start.sizes).toMatchObject({ code: 700_000, stdin: 300_000 });
  });
});

test('whoever was told an id before the end, or has a key, may come back: only a plain answer is acknowledged', async () => {
  const bench = await createGatewayBench();
  const agent = await bench.agent();
  const acknowledged = async (path: string, headers: Record<string, string> = {}) => {
    const answer = bench.ask(path, { body: { code: '' }, headers });
    const execution = await agent.next();
    execution.succeed();
    await (await answer).text();
    await bench.clock.settle();
    const known = agent.received.filter(({ name }) => name === 'RESULT_ACK').map(({ body }) => body);
    return known.some((body) => (body as { execution_id: string }).execution_id === execution.id);
  };
  expect(await acknowledged('/v1/execute')).toBe(true);
  expect(await acknowledged('/v1/execute/stream')).toBe(false);
  expect(await acknowledged('/v1/execute', { 'idempotency-key': 'one' })).toBe(false);
});

describe('output', () => {
  const CAP = 100;

  test.for([
    ['at the cap is whole', CAP, false],
    ['one past the cap is cut so that the marker fits', CAP + 1, true],
  ] as const)('%s', async ([, size, truncated]) => {
    const bench = await createGatewayBench({ config: { maxOutputBytes: CAP } });
    const text = 'x'.repeat(size);
    const { response } = await execute(bench, {}, (run) =>
      run.begin().out(text.slice(0, CAP)).exit({ stdout_bytes: size, stdout_truncated: truncated }),
    );
    const body = executeResponse.parse(await response.json());
    expect(body.stdout_truncated).toBe(truncated);
    expect(body.stdout_bytes).toBe(size);
    expect(body.stdout).toBe(
      truncated ? 'x'.repeat(CAP - TRUNCATION_MARKER.length) + TRUNCATION_MARKER : text,
    );
    expect(Buffer.byteLength(body.stdout)).toBe(CAP);
  });

  test('past the cap gives its sender as much room again as it took, however much comes', async () => {
    const bench = await createGatewayBench({ config: { maxOutputBytes: CAP } });
    let room = 0;
    const { response } = await execute(bench, {}, async (run) => {
      run.begin();
      const { outbox } = run.agent.peer;
      for (let sent = 0; sent < 30; sent += 1) {
        run.out('y'.repeat(20_000));
        await until(() => outbox.empty);
        await bench.clock.settle();
        room = Math.max(room, outbox.room(run.stream));
      }
      run.exit();
    });
    expect(await response.json()).toMatchObject({ stdout_bytes: 600_000 });
    expect(room).toBeLessThanOrEqual(STREAM_WINDOW_BYTES);
  });

  test('past the cap that an agent sends all the same goes nowhere', async () => {
    const bench = await createGatewayBench({ config: { maxOutputBytes: CAP } });
    const { response } = await execute(bench, {}, (run) => run.begin().err('y'.repeat(50_000)).exit());
    const body = executeResponse.parse(await response.json());
    expect(body.stderr_truncated).toBe(true);
    expect(body.stderr).toBe('y'.repeat(CAP - TRUNCATION_MARKER.length) + TRUNCATION_MARKER);
  });

  test('that is cut never halves a character', async () => {
    const bench = await createGatewayBench({ config: { maxOutputBytes: CAP } });
    for (const character of ['é', '€', '😀']) {
      for (let shift = 0; shift < 4; shift += 1) {
        const bytes = Buffer.from('x'.repeat(shift) + character.repeat(60)).subarray(0, CAP);
        const { response } = await execute(bench, {}, (run) =>
          run.begin().out(bytes).exit({ stdout_bytes: 1_000, stdout_truncated: true }),
        );
        const { stdout } = executeResponse.parse(await response.json());
        expect(stdout).not.toContain('\ufffd');
        expect(stdout.endsWith(TRUNCATION_MARKER)).toBe(true);
        expect(Buffer.byteLength(stdout)).toBeGreaterThan(CAP - 4);
        expect(Buffer.byteLength(stdout)).toBeLessThanOrEqual(CAP);
      }
    }
  });

  test('with a cap smaller than the marker is as much of the marker as fits', async () => {
    const bench = await createGatewayBench({ config: { maxOutputBytes: 5 } });
    const { response } = await execute(bench, {}, (run) =>
      run.begin().out('12345').exit({ stdout_bytes: 9, stdout_truncated: true }),
    );
    expect(await response.json()).toMatchObject({ stdout: TRUNCATION_MARKER.slice(0, 5) });
  });

  test('that is no UTF-8 is replaced, NUL, BOM and split characters are kept', async () => {
    const bench = await createGatewayBench();
    const { response } = await execute(bench, {}, (run) => {
      run.begin().out('\ufeffa\0');
      for (const byte of Buffer.from('😀')) run.out(new Uint8Array([byte]));
      run.out(new Uint8Array([0xff, 0x41])).exit();
    });
    expect(await response.json()).toMatchObject({ stdout: '\ufeffa\0😀\ufffdA' });
  });

  test('of both streams larger than the window arrives whole', async () => {
    const bench = await createGatewayBench();
    const { response } = await execute(bench, {}, (run) =>
      run.begin().out('o'.repeat(900_000)).err('e'.repeat(900_000)).exit(),
    );
    const body = executeResponse.parse(await response.json());
    expect([body.stdout.length, body.stderr.length]).toEqual([900_000, 900_000]);
  });

  test('in pieces of one byte arrives whole, files too', async () => {
    const bench = await createGatewayBench();
    const { response } = await execute(bench, {}, (run) => {
      run.begin();
      for (let index = 0; index < 20_000; index += 1) run.out(new Uint8Array([0x61 + (index % 26)]));
      const { peer } = run.agent;
      for (let index = 0; index < 20_000; index += 1) peer.data(run.stream, 3, new Uint8Array([0x30]));
      peer.behind('END', run.stream, 3, { path: 'f', size: 20_000, sha256: '0'.repeat(64) });
      run.exit();
    });
    const body = executeResponse.parse(await response.json());
    expect(body.stdout).toBe('abcdefghijklmnopqrstuvwxyz'.repeat(770).slice(0, 20_000));
    const file = await bench.ask(`/v1/files/${body.files[0]?.file_id}`);
    expect(await file.text()).toBe('0'.repeat(20_000));
  });

  test('has a share of memory for each key: what would go over it does not start', async () => {
    const bench = await createGatewayBench({ config: { outputMemoryBytes: 4 * 2 * STREAM_WINDOW_BYTES } });
    const agent = await bench.agent({ slots: 9 });
    await bench.clock.settle();
    const ask = async (sub: string) =>
      bench.ask('/v1/execute', { key: await bench.key({ sub }), body: { code: '' } });
    const two = [ask('greedy'), ask('greedy')];
    const running = [await agent.next(), await agent.next()];
    expect(await problemOf(await ask('greedy'))).toMatchObject({ status: 429, code: 'rate_limited' });
    const other = ask('modest');
    (await agent.next()).succeed();
    expect((await other).status).toBe(200);
    for (const execution of running) execution.succeed();
    for (const answer of two) expect((await answer).status).toBe(200);
    const later = ask('greedy');
    (await agent.next()).succeed();
    expect((await later).status).toBe(200);
  });

  test('that memory refuses costs no slot', async () => {
    const bench = await createGatewayBench({ config: { outputMemoryBytes: 4 * STREAM_WINDOW_BYTES } });
    const agent = await bench.agent({ slots: 2, refill: false });
    await bench.clock.settle();
    const ask = async (sub: string) =>
      bench.ask('/v1/execute', { key: await bench.key({ sub }), body: { code: '' } });
    const first = ask('greedy');
    const running = await agent.next();
    expect((await ask('greedy')).status).toBe(429);
    const second = ask('modest');
    (await agent.next()).succeed();
    running.succeed();
    expect([(await first).status, (await second).status]).toEqual([200, 200]);
  });

  test('beyond the memory of the gateway ends the execution with a code', async () => {
    const bench = await createGatewayBench({ config: { outputMemoryBytes: 4 * 300_000 } });
    const { response, execution } = await execute(
      bench,
      {},
      (run) => run.begin().out('o'.repeat(200_000)) && undefined,
    );
    expect(await problemOf(response)).toMatchObject({
      status: 502,
      code: 'at_capacity',
      started: 'yes',
      retryable: false,
    });
    await expect.poll(() => execution.cancelled).toBe('at_capacity');
    expect(bench.gateway.status().outputBytes).toBe(0);
  });
});

describe('files', () => {
  async function upload(bench: GatewayBench, content: string): Promise<string> {
    const writer = await bench.files.create('acme/alice', {
      holder: 'acme/alice',
      ceilings: { file_bytes: null, file_count: null },
    });
    await writer.write(new TextEncoder().encode(content));
    return (await writer.commit({ filename: 'data' })).file_id;
  }

  test('that are stored are staged, larger than the window too', async () => {
    const bench = await createGatewayBench();
    const big = 'b'.repeat(900_000);
    const files = [
      { path: 'in/a', file_id: await upload(bench, 'AA') },
      { path: 'b', content: 'inline' },
      { path: 'c', file_id: await upload(bench, big) },
      { path: 'empty', file_id: await upload(bench, '') },
    ];
    await execute(bench, { files }, async (run) => {
      expect(run.start.sizes.files).toBe(2 + 6 + big.length);
      expect((await run.input()).files).toBe(`AAinline${big}`);
      run.succeed();
    });
  });

  test('that are not there are a 404 before anything runs', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    const theirs = await (async () => {
      const writer = await bench.files.create('acme/bob', {
        ceilings: { file_bytes: null, file_count: null },
      });
      return (await writer.commit({ filename: 'x' })).file_id;
    })();
    for (const id of ['nonsense', '../../etc/passwd', crypto.randomUUID(), theirs]) {
      const response = await bench.ask('/v1/execute', {
        body: { code: '', files: [{ path: 'p', file_id: id }] },
      });
      expect(await problemOf(response)).toMatchObject({
        status: 404,
        code: 'not_found',
        detail: `File with ID '${id}' not found for path 'p'.`,
      });
    }
    expect(agent.executions).toEqual([]);
  });

  test('that vanish while they are sent end the execution before it starts', async () => {
    const bench = await createGatewayBench({
      fileStore: opening(async (store, owner, id, signal) => {
        await store.delete(owner, id);
        return store.open(owner, id, signal);
      }),
    });
    const id = await upload(bench, 'gone');
    const { response, execution } = await execute(bench, { files: [{ path: 'p', file_id: id }] }, (run) => {
      run.accept();
    });
    expect(await problemOf(response)).toMatchObject({
      status: 404,
      detail: `File with ID '${id}' not found for path 'p'.`,
    });
    await expect.poll(() => execution.cancelled).toBe('not_found');
  });

  test.for([
    ['longer', 'four and more'],
    ['shorter', 'fou'],
  ] as const)('that are %s than they were stored end the execution before it starts', async ([, text]) => {
    let left = 0;
    const bench = await createGatewayBench({
      fileStore: opening(async (store, owner, id) => {
        const pieces = Array.from(text, (piece) => new TextEncoder().encode(piece));
        const body = new ReadableStream({
          pull(controller) {
            const piece = pieces.shift();
            if (piece) controller.enqueue(piece);
            else controller.close();
          },
          cancel() {
            left += 1;
          },
        });
        return { meta: await store.stat(owner, id), body };
      }),
    });
    const id = await upload(bench, 'four');
    const { response, execution } = await execute(bench, { files: [{ path: 'p', file_id: id }] }, (run) => {
      run.accept();
    });
    expect(await problemOf(response)).toMatchObject({ status: 500, code: 'internal' });
    await expect.poll(() => execution.cancelled).toBe('internal');
    const { manifest, code, files } = execution.start.sizes;
    expect(execution.inputBytes).toBeLessThanOrEqual(manifest + code + files);
    expect(left).toBe(text.length > 4 ? 1 : 0);
  });

  test('that a program made are in the file store of its principal', async () => {
    const bench = await createGatewayBench();
    const { response } = await execute(bench, {}, (run) =>
      run.begin().file('plot.png', 'PNG').file('d/.env', '').file('big', 'z'.repeat(600_000)).exit(),
    );
    const { files } = executeResponse.parse(await response.json());
    expect(files.map(({ path, kind }) => [path, kind])).toEqual([
      ['plot.png', 'file'],
      ['d/.env', 'file'],
      ['big', 'file'],
    ]);
    const downloads = files.map(({ file_id }) => bench.ask(`/v1/files/${file_id}`));
    const [plot, env, big] = await Promise.all(downloads);
    expect(await plot?.text()).toBe('PNG');
    expect(env?.headers.get('content-disposition')).toContain('.env');
    expect(await big?.text()).toHaveLength(600_000);
  });

  test('with paths that lead elsewhere, come twice or are reserved are left out and named', async () => {
    const bench = await createGatewayBench();
    const bad = ['/etc/passwd', '../up', 'a/../b', './a', 'a//b', '__main__.py', 'nul\0', 'x'.repeat(256)];
    const { response } = await execute(bench, {}, (run) => {
      run.begin().file('ok', '1');
      for (const path of [...bad, 'ok']) run.file(path, '2');
      run.exit({ files_omitted: [{ path: 'fifo', reason: 'not_regular' }], files_omitted_count: 1 });
    });
    const body = executeResponse.parse(await response.json());
    expect(body.files.map(({ path }) => path)).toEqual(['ok']);
    expect(body.files_omitted).toEqual([
      ...bad.map((path) => ({ path, reason: 'bad_path' })),
      { path: 'ok', reason: 'twice' },
      { path: 'fifo', reason: 'not_regular' },
    ]);
    expect(body.files_omitted_count).toBe(bad.length + 2);
    expect(await bench.files.usage('acme/alice')).toMatchObject({ count: 1, bytes: 1 });
  });

  test('over the size of a file or the ceilings of the key are left out and named', async () => {
    const bench = await createGatewayBench({ config: { maxFileBytes: 1_000 } });
    const key = await bench.key({ limits: { file_bytes: 1_500 } });
    const agent = await bench.agent();
    const answer = bench.ask('/v1/execute', { key, body: { code: '' } });
    const execution = await agent.next();
    execution
      .begin()
      .file('a', 'x'.repeat(1_001))
      .file('b', 'x'.repeat(1_000))
      .file('c', 'x'.repeat(501))
      .exit();
    const body = executeResponse.parse(await (await answer).json());
    expect(body.files.map(({ path }) => path)).toEqual(['b']);
    expect(body.files_omitted).toEqual([
      { path: 'a', reason: 'too_large' },
      { path: 'c', reason: 'no_room' },
    ]);
  });

  test('of an execution that fails are taken back', async () => {
    const bench = await createGatewayBench();
    const { response } = await execute(bench, {}, (run) =>
      run.begin().file('a', '1').fail('sandbox_lost', 'yes'),
    );
    expect(response.status).toBe(502);
    await expect.poll(async () => (await bench.files.usage('acme/alice')).count).toBe(0);
  });

  test('of a sandbox that is lost inside one cost no link, and none is kept', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    (await agent.next()).begin().file('a', '1').partOfFile('22').fail('sandbox_lost', 'yes');
    expect(await problemOf(await answer)).toMatchObject({ code: 'sandbox_lost', started: 'yes' });
    expect(agent.closed).toBeUndefined();
    await expect.poll(async () => (await bench.files.usage('acme/alice')).count).toBe(0);
  });

  test('of an execution that is cancelled inside one are those before it', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    await bench.clock.settle();
    const answer = bench.ask('/v1/execute', { body: { code: '' } });
    const run = await agent.next();
    run.begin().file('a', '1').partOfFile('22').exit({ outcome: 'cancelled', exit_code: null });
    const body = executeResponse.parse(await (await answer).json());
    expect([body.outcome, body.files.map(({ path }) => path)]).toEqual(['cancelled', ['a']]);
    expect(agent.closed).toBeUndefined();
  });

  test('that have no end before a result of a program that ended close the link of the agent that says so', async () => {
    const bench = await createGatewayBench();
    const agent = await bench.agent();
    await bench.clock.settle();
    void bench.ask('/v1/execute', { body: { code: '' } });
    (await agent.next()).begin().partOfFile('22').exit();
    await expect.poll(() => agent.closed?.code).toBe(4400);
  });
});
