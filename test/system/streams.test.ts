import { expect, test } from 'vitest';
import type { StreamEvent } from '../../client/types.ts';
import { countRunning } from '../fakes/process-tree.ts';
import { describeStack } from './suite.ts';

describeStack('POST /v1/execute/stream', {}, (stack) => {
  const rawStream = async (body: object) => {
    const response = await stack().post('/v1/execute/stream', body);
    return { headers: response.headers, text: await response.text() };
  };

  test('is to the letter what existing clients parse', async () => {
    const { headers, text } = await rawStream({
      code: 'import os\nos.write(1, "é\\n".encode())\nos.write(2, b"no\\n")\nraise SystemExit(3)',
    });
    expect(headers.get('content-type')).toBe('text/event-stream');
    expect(headers.get('cache-control')).toBe('no-cache');
    expect(headers.get('x-accel-buffering')).toBe('no');
    const frames = text.split('\n\n');
    expect(frames.pop()).toBe('');
    for (const frame of frames) expect(frame).toMatch(/^event: (output|result)\ndata: \{.*\}$/);
    expect(frames.slice(0, -1).sort()).toEqual([
      'event: output\ndata: {"stream":"stderr","data":"no\\n"}',
      'event: output\ndata: {"stream":"stdout","data":"é\\n"}',
    ]);
    const [, data = ''] = frames.at(-1)?.split('\ndata: ') ?? [];
    expect(frames.at(-1)).toMatch(/^event: result\n/);
    expect(JSON.parse(data)).toMatchObject({
      exit_code: 3,
      timed_out: false,
      files: [],
      execution_id: headers.get('podgate-execution-id'),
    });
    expect(data).toMatch(/^\{"exit_code":3,"timed_out":false,"duration_ms":\d+,"files":\[\]/);
  });

  test.each([
    ['python', 'import time\nfor i in range(4): print(i); time.sleep(0.15)'],
    ['bash', 'for i in 0 1 2 3; do echo $i; sleep 0.15; done'],
    [
      'node',
      'let i = 0; const t = setInterval(() => { console.log(i++); if (i > 3) clearInterval(t); }, 150);',
    ],
  ] as const)('brings each line of a loop as it happens: %s', async (language, code) => {
    let seen = '';
    for await (const event of stack().podgate.stream({ code, language, timeout_ms: 20_000 })) {
      if (event.type === 'result') break;
      if (event.type === 'output') seen += event.data;
      // When a line arrives the program still runs; behind the last one it may have ended.
      if (!seen.includes('3')) expect(stack().agents[0]?.status().running).toBe(1);
    }
    expect(seen).toBe('0\n1\n2\n3\n');
  });

  test('has output without a line end at once, and no character in two', async () => {
    const code = 'import os, time\nfor byte in "🙂é".encode(): os.write(1, bytes([byte])); time.sleep(0.05)';
    const parts: string[] = [];
    for await (const event of stack().podgate.stream(code))
      if (event.type === 'output') parts.push(event.data);
    // A character comes when its last byte is there, and not before.
    expect(parts).toEqual(['🙂', 'é']);
  });

  test('is cut at the cap without a marker, and says so at its end', async () => {
    const events: StreamEvent[] = [];
    for await (const event of stack().podgate.stream({
      code: 'print("x" * 100)',
      limits: { max_output_bytes: 30 },
    }))
      events.push(event);
    expect(
      events.map((event) =>
        event.type === 'result' ? event.stdout_truncated : event.type === 'output' && event.data,
      ),
    ).toEqual(['x'.repeat(30), true]);
  });

  test('says in its result that the program ran out of time', async () => {
    const { text } = await rawStream({ code: 'print(1)\nwhile True: pass', timeout_ms: 200 });
    expect(text).toMatch(/"exit_code":null,"timed_out":true/);
  });

  test.each([
    [{ timeout_ms: '1' }, 422],
    [{ cluster: 'nowhere' }, 404],
    [{ files: [{ path: 'a', file_id: crypto.randomUUID() }] }, 404],
    [
      {
        files: [
          { path: 'a', content: '' },
          { path: 'a/b', content: '' },
        ],
      },
      422,
    ],
  ])('refuses as plain HTTP what can be refused: %j', async (part, status) => {
    const response = await stack().post('/v1/execute/stream', { code: '1', ...part });
    expect([response.status, response.headers.get('content-type')]).toEqual([
      status,
      'application/problem+json',
    ]);
  });

  test('whose caller goes away ends the program and all that it started', async () => {
    await using held = await stack().hold();
    expect(held.alive()).toBe(1);
    await held.leave();
    await expect.poll(held.alive, { interval: 2 }).toBe(0);
    const ended = await stack().logged(
      ({ event, execution_id }) => event === 'execution' && execution_id === held.executionId,
    );
    expect(ended).toMatchObject({ started: 'yes' });
  });

  test('and so does a plain request whose caller goes away', async () => {
    const leaving = new AbortController();
    const marker = `3${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    const asked = stack().podgate.execute(
      { code: `import subprocess; subprocess.run(["sleep", "${marker}"])`, timeout_ms: 60_000 },
      { signal: leaving.signal },
    );
    await expect.poll(() => countRunning('sleep', marker), { interval: 2 }).toBe(1);
    leaving.abort();
    await expect(asked).rejects.toThrow();
    await expect.poll(() => countRunning('sleep', marker), { interval: 2 }).toBe(0);
  });
});
