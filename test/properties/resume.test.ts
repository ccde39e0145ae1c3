import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { resultOf } from '../fakes/fake-runner.ts';
import { createGatewayBench } from '../fakes/gateway-bench.ts';
import { createLinkedExecutions } from '../fakes/linked-executions.ts';
import { until } from '../fakes/until.ts';

type Step =
  | { do: 'turn' | 'link' | 'start' | 'read' | 'file' }
  | { do: 'cut'; which: number }
  | { do: 'out'; channel: 1 | 2; bytes: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom<Step>({ do: 'turn' }, { do: 'read' }) },
  { weight: 1, arbitrary: fc.constantFrom<Step>({ do: 'link' }, { do: 'start' }, { do: 'file' }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cut' as const), which: fc.nat(1) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('out' as const),
      channel: fc.constantFrom(1 as const, 2 as const),
      bytes: fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 120_000 })),
    }),
  },
);

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const STREAM = { 1: 'stdout', 2: 'stderr' } as const;

/** What a gateway and an agent of ours make of one execution whose links come and go. */
async function live(steps: readonly Step[]) {
  const bench = await createGatewayBench({ config: { maxOutputBytes: 1_000_000_000 } });
  const agent = await createLinkedExecutions(bench.gateway, {
    identity: await bench.identity(),
    clock: bench.clock,
  });
  await agent.link();
  const said = { stdout: '', stderr: '' };
  const heard = { stdout: '', stderr: '' };
  const files = new Map<string, string>();
  const begun = new Set<object>();
  const asked = bench.ask('/v1/execute/stream', { body: { code: 'x', timeout_ms: 60_000 } });
  let last: Record<string, unknown> | undefined;
  let reading: Promise<void> | undefined;
  let rest = '';
  let numbers = 0;
  await until(() => bench.gateway.status().running === 1);
  const reader = asked.then(({ body }) => body?.getReader());

  async function read(): Promise<void> {
    const { done, value } = (await (await reader)?.read()) ?? { done: true, value: undefined };
    if (done) return;
    rest += Buffer.from(value as Uint8Array).toString();
    const frames = rest.split('\n\n');
    rest = frames.pop() ?? '';
    for (const frame of frames) {
      const [, name, json] = /^event: (\w+)\ndata: (.*)$/.exec(frame) ?? [];
      const data = JSON.parse(json ?? 'null');
      if (name === 'output') heard[data.stream as 'stdout' | 'stderr'] += data.data;
      else if (name) last = { event: name, ...data };
    }
  }
  const run = () => agent.runs.at(-1);
  const sent = () => said.stdout.length + said.stderr.length + [...files.values()].join('').length;
  function print(channel: 1 | 2, bytes: number): void {
    const current = run();
    const room = current && begun.has(current) ? current.limit - sent() : 0;
    let text = '';
    while (text.length < bytes) text += `${numbers++} `;
    text = text.slice(0, Math.min(bytes, room));
    if (text === '') return;
    said[STREAM[channel]] += text;
    current?.output(channel, text);
  }
  function write(): void {
    const current = run();
    const content = `file ${files.size} ${'y'.repeat(files.size * 997)}`;
    if (!current || !begun.has(current) || current.limit - sent() < content.length) return;
    const path = `f${files.size}`;
    files.set(path, content);
    current.output(3, content);
    const sha256 = createHash('sha256').update(content).digest('hex');
    current.file({ path, size: content.length, sha256 });
  }
  const begin = () => {
    const current = run();
    if (!current || begun.has(current)) return;
    begun.add(current);
    current.started();
  };

  for (const each of steps) {
    if (each.do === 'turn') await turn();
    else if (each.do === 'link' && agent.links.length < 2) await agent.link();
    else if (each.do === 'cut') agent.links[each.which]?.cut();
    else if (each.do === 'start') begin();
    else if (each.do === 'out') print(each.channel, each.bytes);
    else if (each.do === 'file') write();
    else if (each.do === 'read')
      reading ??= read().finally(() => {
        reading = undefined;
      });
  }
  if (agent.links.length === 0) await agent.link();
  await until(() => run() !== undefined);
  begin();
  run()?.exit(resultOf({ stdout_bytes: said.stdout.length, stderr_bytes: said.stderr.length }));
  const response = await asked;
  await reading;
  while (last === undefined && response.ok) await read();
  return { bench, response, said, heard, files, last, begun: begun.size };
}

test('whatever happens to its links, an execution begins once and its caller has every byte and every file', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { bench, response, said, heard, files, last, begun } = await live(steps);
      expect(response.status).toBe(200);
      expect(last).toMatchObject({ event: 'result', exit_code: 0, files_omitted: [] });
      expect(heard).toEqual(said);
      expect(begun).toBe(1);
      const kept = last?.files as { path: string; file_id: string }[];
      expect(kept.map(({ path }) => path)).toEqual([...files.keys()]);
      for (const { path, file_id } of kept)
        expect(await (await bench.ask(`/v1/files/${file_id}`)).text()).toBe(files.get(path));
    }),
    { numRuns: 40 },
  );
}, 120_000);
