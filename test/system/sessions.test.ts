import { expect, test } from 'vitest';
import type { SessionPage } from '../../client/session-types.ts';
import type { BashResponse, SessionResponse } from '../../shared/session-api.ts';
import { eventually } from '../fakes/eventually.ts';
import type { Entry } from '../fakes/stack.ts';
import { until } from '../fakes/until.ts';
import { describeStack } from './suite.ts';

const TEMPLATES = [
  {
    name: 'default',
    languages: ['python', 'bash'] as ('python' | 'bash')[],
    pool: { min: 1, max: 4 },
    resources: { cpu_seconds: 20, timeout_ms: 20_000 },
  },
  {
    name: 'kept',
    reuse: 'reset' as const,
    languages: ['python', 'bash'] as ('python' | 'bash')[],
    pool: { min: 1, max: 4 },
    resources: { cpu_seconds: 20, timeout_ms: 20_000 },
  },
];

describeStack('a session', { templates: TEMPLATES }, (stack) => {
  const as = (key?: string) => ({ ...(key && { authorization: `Bearer ${key}` }) });
  const open = async (body: object = {}, key?: string): Promise<SessionResponse> => {
    const response = await stack().post('/v1/sessions', body, as(key));
    expect(response.status, await response.clone().text()).toBe(201);
    return (await response.json()) as SessionResponse;
  };
  const bash = async (id: string, cmd: string, rest: object = {}) => {
    const response = await stack().post(`/v1/sessions/${id}/bash`, { cmd, ...rest });
    expect(response.status, await response.clone().text()).toBe(200);
    return (await response.json()) as BashResponse;
  };
  const end = (id: string, key?: string) =>
    stack().fetch(`/v1/sessions/${id}`, { method: 'DELETE', headers: as(key) });
  const taken = () =>
    stack()
      .agents[0]?.status()
      .clusters.flatMap((cluster) => Object.values(cluster.pools))
      .reduce((sum, pool) => sum + pool.taken + pool.condemned + pool.retiring, 0);

  test('is named by its own template in every line and record of what is done in it', async () => {
    const { session_id } = await open({ template: 'kept' });
    await bash(session_id, 'true');
    const path = `/v1/sessions/${session_id}`;
    await stack().post(`${path}/execute`, { code: '1' });
    await stack().fetch(`${path}/files/list`);
    await end(session_id);
    const told = async (of: 'gateway' | 'agent', work: string) => {
      const { execution_id } = await stack().logged(
        (entry) =>
          entry.event === 'execution' && entry.session_work === work && entry.session_id === session_id,
      );
      const same = (entry: Entry) =>
        entry.of === of && entry.event === 'execution' && entry.execution_id === execution_id;
      return (await stack().logged(same)).template;
    };
    for (const work of ['open', 'bash', 'python', 'files'])
      expect([work, await told('gateway', work), await told('agent', work)]).toEqual([work, 'kept', 'kept']);
  });

  test('answers existing clients with exactly the members that they read, of the right types', async () => {
    const before = Date.now() / 1_000;
    const session = await open();
    expect(typeof session.session_id).toBe('string');
    expect(session.expires_at).toBeGreaterThan(before + 899);
    expect(session.expires_at).toBeLessThan(Date.now() / 1_000 + 900.1);
    const ran = await bash(session.session_id, 'echo out; echo err >&2; exit 3');
    expect(ran).toMatchObject({ stdout: 'out\n', stderr: 'err\n', exit_code: 3, timed_out: false });
    expect(Number.isInteger(ran.duration_ms)).toBe(true);
    const slow = await bash(session.session_id, 'echo begun; sleep 60', { timeout_ms: 1_000 });
    expect(slow).toMatchObject({ stdout: 'begun\n', exit_code: null, timed_out: true });
    expect((await end(session.session_id)).status).toBe(204);
    const gone = await end(session.session_id);
    expect(gone.status).toBe(404);
    expect(await gone.json()).toMatchObject({
      detail: `Session '${session.session_id}' not found`,
    });
  });

  for (const template of ['default', 'kept'])
    test(`keeps files from command to command, and nothing else of one (${template})`, async () => {
      const uploaded = await stack().podgate.files.upload('from the store', { filename: 'x.txt' });
      const files = [
        { path: 'a/b.txt', content: 'inline' },
        { path: 'c.txt', file_id: uploaded.file_id },
      ];
      const { session_id: id } = await open({ files, template });
      expect((await bash(id, 'cat a/b.txt c.txt; pwd')).stdout).toMatch(/^inlinefrom the store\/\w+\n$/);
      await bash(id, 'cd a; X=1; export Y=2; (sleep 1000 &); echo new > made.txt');
      const next = await bash(
        id,
        'echo "$X$Y:$Z"; cat a/made.txt; ps -e 2>/dev/null | grep -c sleep; ls -A',
        {
          env: { Z: 'given' },
        },
      );
      expect(next.stdout).toBe(':given\nnew\n0\na\nc.txt\n');
      expect((await end(id)).status).toBe(204);
    });

  test('does once what is asked for with one Idempotency-Key, and answers it again', async () => {
    const { session_id: id } = await open();
    const ask = async (work: string, body: object, key: string) => {
      const response = await stack().post(`/v1/sessions/${id}/${work}`, body, { 'idempotency-key': key });
      return [response.status, await response.json()] as const;
    };
    const command = { cmd: 'echo run | tee -a runs' };
    const both = await Promise.all([ask('bash', command, 'c'), ask('bash', command, 'c')]);
    const [first] = both;
    expect(first).toMatchObject([200, { stdout: 'run\n', exit_code: 0 }]);
    for (const again of [...both, await ask('bash', command, 'c')]) expect(again).toEqual(first);
    const streamed = await stack().post(`/v1/sessions/${id}/bash/stream`, command, {
      'idempotency-key': 'c',
    });
    const events = await streamed.text();
    expect(events).toContain('id: 4.0\nevent: output\ndata: {"stream":"stdout","data":"run\\n"}');
    expect(events).toMatch(/id: 4\.0\nevent: result\ndata: \{"exit_code":0,/);
    expect((await bash(id, 'cat runs')).stdout).toBe('run\n');
    expect(await ask('bash', { cmd: 'true' }, 'c')).toMatchObject([409, { code: 'conflict' }]);
    const python = { code: 'n = globals().get("n", 0) + 1\nprint(n)\nn', rich: true };
    const counted = await ask('execute', python, 'p');
    expect(counted).toMatchObject([
      200,
      { stdout: '1\n', results: [{ data: { 'text/plain': '1' } }], context_state: 'kept' },
    ]);
    expect(await ask('execute', python, 'p')).toEqual(counted);
    // Another session's is another request, and what has ended is answered still.
    const { session_id: other } = await open();
    const elsewhere = await stack().post(`/v1/sessions/${other}/bash`, command, { 'idempotency-key': 'c' });
    expect(elsewhere.status).toBe(409);
    expect((await end(other)).status).toBe(204);
    expect((await end(id)).status).toBe(204);
    expect(await ask('bash', command, 'c')).toEqual(first);
    expect(await ask('bash', command, 'new')).toMatchObject([404, { code: 'not_found' }]);
  });

  test('is nothing to anybody else: another principal, another end user, a made-up id', async () => {
    const { session_id: id } = await open();
    const other = await stack().key();
    const ask = (path: string, init: RequestInit) => stack().fetch(`/v1/sessions/${path}`, init);
    const strangers = [{ authorization: `Bearer ${other}` }, { 'podgate-user': 'somebody' }];
    for (const who of strangers) {
      const headers = { 'content-type': 'application/json', ...who };
      for (const [path, method, body] of [
        [id, 'GET', undefined],
        [id, 'DELETE', undefined],
        [`${id}/bash`, 'POST', '{"cmd":"id"}'],
        [`${id}/extend`, 'POST', '{}'],
      ] as const) {
        const response = await ask(path, { method, headers, ...(body && { body }) });
        expect([path, method, response.status]).toEqual([path, method, 404]);
      }
      const list = (await (await stack().fetch('/v1/sessions', { headers })).json()) as {
        sessions: unknown[];
      };
      expect(list.sessions).toEqual([]);
    }
    for (const made of ['x', `${id}x`, id.slice(0, -1)])
      expect((await ask(made, { method: 'DELETE' })).status).toBe(404);
    expect((await bash(id, 'echo still here')).stdout).toBe('still here\n');
    await end(id);
  });

  test('is nothing to a key of its principal that may not use its template', async () => {
    const { session_id } = await open({ template: 'kept' });
    const narrow = as(await stack().key({ sub: 'own', templates: ['default'] }));
    const wide = as(await stack().key({ sub: 'own', templates: ['k*'] }));
    const path = `/v1/sessions/${session_id}`;
    const listed = async (headers: object) => {
      const { sessions } = (await (await stack().fetch('/v1/sessions', { headers })).json()) as SessionPage;
      return sessions.some((session) => session.session_id === session_id);
    };
    for (const [headers, status, isListed] of [
      [narrow, 404, false],
      [wide, 200, true],
    ] as const) {
      expect((await stack().fetch(path, { headers })).status).toBe(status);
      expect((await stack().post(`${path}/bash`, { cmd: 'true' }, headers)).status).toBe(status);
      expect((await stack().post(`${path}/execute`, { code: '1' }, headers)).status).toBe(status);
      expect(await listed(headers)).toBe(isListed);
    }
    await end(session_id);
  });

  test('is nothing to such a key in its programs either, by their ids', async () => {
    const podgate = await stack().client({ sub: 'own' });
    await using session = await podgate.sessions.create({ template: 'kept' });
    const cat = await session.spawn('cat');
    const plain = await podgate.start({ code: 'import time; time.sleep(60)', template: 'kept' });
    for (const [template, known] of [
      ['default', 404],
      ['kept', 200],
    ] as const) {
      const headers = as(await stack().key({ sub: 'own', templates: [template] }));
      for (const id of [cat.id, plain]) {
        const path = `/v1/executions/${id}`;
        expect((await stack().fetch(path, { headers })).status).toBe(known);
        const events = await stack().fetch(`${path}/events`, { headers });
        expect(events.status).toBe(known);
        await events.body?.cancel();
        if (known === 200) continue;
        expect((await stack().fetch(path, { method: 'DELETE', headers })).status).toBe(404);
        expect((await stack().post(`${path}/stdin`, {}, headers)).status).toBe(404);
        expect((await stack().post(`${path}/signal`, { signal: 'SIGKILL' }, headers)).status).toBe(404);
      }
    }
    await podgate.executions.cancel(plain);
  });

  test('is listed, extended and ended by its owner, and ends by itself at its time with all that it had', async () => {
    const brief = await open({ ttl_seconds: 60 });
    const first = await open({ ttl_seconds: 60 });
    const second = await open({ ttl_seconds: 2 });
    const ids = async (query = '') => {
      const answer = (await (await stack().fetch(`/v1/sessions${query}`)).json()) as {
        sessions: SessionResponse[];
        next_cursor: string | null;
      };
      return { ids: answer.sessions.map(({ session_id }) => session_id), next: answer.next_cursor };
    };
    const page = await ids('?limit=1');
    expect(page.ids).toEqual([brief.session_id]);
    await end(brief.session_id);
    // It moves nobody on the pages behind it.
    expect(await ids(`?limit=2&cursor=${page.next}`)).toEqual({
      ids: [first.session_id, second.session_id],
      next: null,
    });
    expect(await ids()).toEqual({ ids: [first.session_id, second.session_id], next: null });
    const extended = await stack().post(`/v1/sessions/${first.session_id}/extend`, { ttl_seconds: 600 });
    const { expires_at } = (await extended.json()) as SessionResponse;
    expect(expires_at - Date.now() / 1_000).toBeGreaterThan(598);
    const cut = await stack().post(`/v1/sessions/${second.session_id}/bash`, {
      cmd: 'echo x; sleep 100',
      timeout_ms: 20_000,
    });
    // No other of its clocks ends it so soon.
    expect(Date.now() / 1_000 - second.expires_at).toBeLessThan(5);
    expect(cut.status).toBe(502);
    expect(await cut.json()).toMatchObject({
      code: 'sandbox_lost',
      started: 'yes',
      detail: 'The session ended: its time was over.',
    });
    expect((await ids()).ids).toEqual([first.session_id]);
    await end(first.session_id);
    await until(() => taken() === 0);
  });

  test('ends when it was idle for long enough, and not while something runs', async () => {
    const { session_id: id } = await open({ idle_seconds: 1 });
    expect((await bash(id, 'sleep 1.5; echo alive')).stdout).toBe('alive\n');
    expect((await stack().fetch(`/v1/sessions/${id}`)).status).toBe(200);
    await eventually(async () => (await stack().fetch(`/v1/sessions/${id}`)).status === 404);
    await until(() => taken() === 0);
  });

  test('counts in its key’s ceiling and in its template’s pool', async () => {
    const key = await stack().key({ limits: { sessions: 1 } });
    const { session_id: id } = await open({}, key);
    const beyond = await stack().post('/v1/sessions', {}, as(key));
    expect(beyond.status).toBe(429);
    expect(beyond.headers.get('retry-after')).not.toBeNull();
    const rest = [await open(), await open(), await open()];
    const full = await stack().post('/v1/sessions', { queue_timeout_ms: 100 });
    expect(full.status).toBe(503);
    expect(await full.json()).toMatchObject({ code: 'at_capacity' });
    await end(id, key);
    const { session_id: again } = await open({}, key);
    await end(again, key);
    await Promise.all(rest.map(({ session_id }) => end(session_id)));
    await until(() => taken() === 0);
  });

  test('runs commands side by side up to a limit, and says 409 beyond it', async () => {
    const { session_id: id } = await open();
    const held = Array.from({ length: 8 }, (_, index) => bash(id, `echo ${index}; sleep 2`));
    await eventually(async () => {
      const state = (await (await stack().fetch(`/v1/sessions/${id}`)).json()) as SessionResponse;
      return state.running === 8;
    });
    const ninth = await stack().post(`/v1/sessions/${id}/bash`, { cmd: 'true' });
    expect([ninth.status, ((await ninth.json()) as { code: string }).code]).toEqual([409, 'busy']);
    expect((await Promise.all(held)).map(({ stdout }) => stdout)).toEqual(
      Array.from({ length: 8 }, (_, index) => `${index}\n`),
    );
    await end(id);
  });

  test('holds the limits that executions have: time, processor, memory, output', async () => {
    const { session_id: id } = await open();
    const cpu = await bash(
      id,
      'ulimit -t; python3 -c "import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0] // 2**20)"',
    );
    expect(cpu.stdout).toMatch(/^\d+\n256\n$/);
    const memory = await bash(id, 'python3 -c "x = b\\"x\\" * (1 << 30)"');
    expect(memory.stderr).toContain('MemoryError');
    const flood = await bash(id, 'head -c 3000000 /dev/zero | tr "\\0" x');
    expect(flood).toMatchObject({ stdout_bytes: 3_000_000, stdout_truncated: true, exit_code: 0 });
    await end(id);
  });

  test('ends a command whose caller goes away, and only that', async () => {
    const { session_id: id } = await open();
    const gone = new AbortController();
    const leaving = stack()
      .fetch(`/v1/sessions/${id}/bash`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ cmd: 'echo x > begun; sleep 1000' }),
        signal: gone.signal,
      })
      .catch(() => undefined);
    await eventually(async () => (await bash(id, 'cat begun 2>/dev/null; true')).stdout === 'x\n');
    gone.abort();
    await leaving;
    await eventually(
      async () => (await bash(id, 'ps -e 2>/dev/null | grep -c sleep; true')).stdout === '0\n',
    );
    expect((await bash(id, 'cat begun')).stdout).toBe('x\n');
    await end(id);
  });

  test('does three hundred commands, and what one leaves the next finds', async () => {
    const { session_id: id } = await open();
    for (let count = 1; count <= 300; count += 1) {
      const { stdout } = await bash(id, 'n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) | tee n');
      expect(stdout).toBe(`${count}\n`);
    }
    await end(id);
  }, 120_000);
});
