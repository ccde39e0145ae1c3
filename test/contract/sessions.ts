import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Podgate } from '../../client/podgate.ts';
import type { Session } from '../../client/sessions.ts';
import { MAX_SESSION_WORK } from '../../shared/limits.ts';
import type { TemplateInput } from '../../shared/template.ts';
import type { BackendStack } from '../fakes/backend-stack.ts';
import { codeOf } from '../fakes/code-of.ts';
import { eventually } from '../fakes/eventually.ts';

export type SessionsPlace = {
  /** Why it cannot be had here, if it cannot. */
  trouble?: (() => Promise<string | undefined>) | undefined;
  open(templates: readonly TemplateInput[]): Promise<BackendStack>;
  template?: Partial<TemplateInput> | undefined;
  /** Sandboxes that exist, as the backend itself tells. */
  sandboxes?: (() => Promise<string[]>) | undefined;
  /** Sessions at once. */
  many: number;
};

const QUEUE_MS = 300_000;

/** So many at once that a machine of two processors has time for each. */
const ABREAST = 10;

async function inTurn<T>(count: number, work: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const take = async () => {
    for (let index = next++; index < count; index = next++) results[index] = await work(index);
  };
  await Promise.all(Array.from({ length: ABREAST }, take));
  return results;
}

/** What sessions promise, whatever makes their sandboxes. */
export function sessionsContract(name: string, place: SessionsPlace): void {
  describe(`sessions on ${name}`, () => {
    let opened: BackendStack | undefined;
    let trouble: string | undefined;
    beforeAll(async () => {
      trouble = await place.trouble?.();
      if (trouble === undefined)
        opened = await place.open([
          {
            name: 'default',
            languages: ['python', 'bash'],
            pool: { min: 2, max: place.many + 4 },
            resources: { memory_mb: 64, workspace_mb: 8, tmp_mb: 8, cpu_seconds: 60, timeout_ms: 60_000 },
            ...place.template,
          },
        ]);
    });
    beforeEach((context) => context.skip(trouble !== undefined, trouble));
    afterAll(async () => {
      // It fails where a sandbox is left when its agent has ended.
      await opened?.[Symbol.asyncDispose]();
    });
    const podgate = () => (opened as BackendStack).stack.podgate;
    const make = (ttl_seconds = 600, client = podgate()) =>
      client.sessions.create({ ttl_seconds, queue_timeout_ms: QUEUE_MS });
    const use = async (work: (session: Session) => Promise<void>) => {
      await using session = await make();
      await work(session);
    };
    const taken = () =>
      Object.values(opened?.agent.status().clusters[0]?.pools ?? {}).reduce(
        (sum, pool) => sum + pool.taken,
        0,
      );
    /** The name of its sandbox, as the agent's log has it. */
    const sandboxOf = (session: Session) =>
      String(
        opened?.log.find(({ event, session_id }) => event === 'session_began' && session_id === session.id)
          ?.sandbox,
      );
    const expectGone = async (session: Session, why: string) => {
      await eventually(async () => taken() === 0);
      const name = sandboxOf(session);
      await eventually(async () => !(await place.sandboxes?.())?.includes(name));
      const ended = opened?.log.filter(
        ({ event, session_id }) => event === 'session_ended' && session_id === session.id,
      );
      expect(ended).toMatchObject([{ why, sandbox: name }]);
    };

    test('keep files and variables, and tell how each piece of work ended', () =>
      use(async (session) => {
        await session.bash('mkdir -p a; echo kept > a/f; sleep 1000 &');
        expect((await session.bash('cat a/f; ps -e 2>/dev/null | grep -c "sleep 1000"')).stdout).toBe(
          'kept\n0\n',
        );
        await session.execute('import math\nx = 41');
        expect((await session.execute('x + 1')).stdout).toBe('42\n');
        expect(await session.bash('echo out; echo err >&2; exit 3')).toMatchObject({
          stdout: 'out\n',
          stderr: 'err\n',
          exit_code: 3,
          outcome: 'exited',
        });
        expect(await session.bash({ cmd: 'echo up; sleep 60', timeout_ms: 500 })).toMatchObject({
          stdout: 'up\n',
          exit_code: null,
          timed_out: true,
        });
        expect(await session.execute({ code: 'import time; time.sleep(60)', timeout_ms: 500 })).toMatchObject(
          {
            timed_out: true,
            context_state: 'kept',
          },
        );
        expect((await session.execute('x')).stdout).toBe('41\n');
      }));

    test('outlive what is done to them from inside: kills, too much memory, too many processes', () =>
      use(async (session) => {
        await session.bash('echo kept > f');
        expect(await session.bash('kill -9 -1; kill -9 1; echo alive')).toMatchObject({
          outcome: expect.any(String),
        });
        const died = await session.execute('import os; os.kill(os.getpid(), 9)');
        expect(died).toMatchObject({ outcome: 'signaled', exit_code: 137, context_state: 'lost' });
        const large = await session.bash(`python3 -c 'x = b"x" * (1 << 30)'`);
        expect(large.stderr).toContain('MemoryError');
        const bomb = ':(){ :|:& };:; sleep 30';
        const bombed = await session.bash({ cmd: bomb, timeout_ms: 2_000 });
        expect(['timed_out', 'exited', 'memory_limit']).toContain(bombed.outcome);
        // What was given up before it was over ends one by one; an interpreter that was kept does not wait for its own.
        const look = 'cat f; ps -e -o stat= 2>/dev/null | grep -vc ^Z';
        await eventually(async () =>
          /^kept\n\s*\d\n$/.test((await session.bash(look).catch(() => null))?.stdout ?? ''),
        );
        expect((await session.execute('1 + 1')).stdout).toBe('2\n');
      }));

    test('outlive an interpreter that forks without end', () =>
      use(async (session) => {
        await session.bash('echo kept > f');
        await session.execute('x = 1');
        const grown = 'import os\nwhile True:\n  try: os.fork()\n  except OSError: pass';
        const snake = await session.execute({ code: grown, timeout_ms: 1_500, context: 'bomb' });
        expect(snake).toMatchObject({ outcome: 'timed_out' });
        await eventually(async () => (await session.bash('cat f').catch(() => null))?.stdout === 'kept\n');
        expect((await session.execute('x')).stdout).toBe('1\n');
        // A machine with too much to do may be at killing it still, though its caller had the answer.
        const again = () => session.execute({ code: '1 + 1', context: 'bomb' }).catch(() => null);
        await eventually(async () => (await again())?.stdout === '2\n');
      }));

    test('give files in and out, whole and in parts, and none from outside', () =>
      use(async (session) => {
        await session.files.write('d/in.txt', 'content');
        const read = async (path: string, range: object = {}) =>
          new Response(await session.files.read(path, range)).text();
        expect(await read('d/in.txt', { first: 1, last: 3 })).toBe('ont');
        await session.bash('ln -s /etc/passwd out; ln -s / d/root');
        expect(await codeOf(session.files.read('out'))).toMatch(/^4\d\d /);
        expect(await codeOf(session.files.read('d/root/etc/passwd'))).toMatch(/^4\d\d /);
        expect(await codeOf(session.files.read('../etc/passwd'))).toBe('422 invalid_request');
        const tar = await new Response(await session.files.pack('d')).blob();
        await session.files.unpack(tar, 'copy');
        expect((await session.bash('cat copy/in.txt copy/d/in.txt 2>/dev/null')).stdout).toBe('content');
      }));

    test('feed and signal a program that runs', () =>
      use(async (session) => {
        const cat = await session.spawn('cat; echo over; sleep 100');
        await cat.write('a');
        await cat.end();
        let said = '';
        for await (const event of cat) {
          if (event.type === 'result') expect(event).toMatchObject({ signal: 15, outcome: 'signaled' });
          else {
            said += event.data;
            if (said.includes('over\n')) await cat.signal('SIGTERM');
          }
        }
        expect(said).toBe('aover\n');
      }));

    test('run so much at once and no more', () =>
      use(async (session) => {
        const begun = [];
        for (let count = 0; count < MAX_SESSION_WORK; count += 1)
          begun.push(await session.spawn('sleep 100'));
        expect(await codeOf(session.bash('true'))).toBe('409 busy');
        for (const each of begun) await each.signal('SIGKILL');
        await eventually(async () => (await session.state()).running === 0);
        expect((await session.bash('echo free')).stdout).toBe('free\n');
      }));

    test('are ended to the second by their time, and at once by their owner, with all that runs, and leave nothing', async () => {
      const begunMs = Date.now();
      const short = await make(3);
      const cut = codeOf(short.bash('sleep 100'));
      expect(await cut).toBe('502 sandbox_lost');
      const lastedMs = Date.now() - begunMs;
      expect(lastedMs).toBeGreaterThanOrEqual(3_000);
      expect(await codeOf(short.state())).toBe('404 not_found');
      await expectGone(short, 'expired');
      const deleted = await make();
      const running = codeOf(deleted.bash('sleep 100'));
      await eventually(async () => (await deleted.state()).running === 1);
      await deleted.end();
      expect(await running).toBe('502 sandbox_lost');
      expect(await codeOf(deleted.bash('true'))).toBe('404 not_found');
      await expectGone(deleted, 'deleted');
    });

    test('are as many as a key may have, and nobody else’s', async () => {
      const { stack } = opened as BackendStack;
      const key = await stack.key({ limits: { sessions: 1 } });
      await using session = await make(600, new Podgate({ baseUrl: stack.url, key }));
      // As it stands: a client would ask again.
      const second = await stack.post(
        '/v1/sessions',
        { queue_timeout_ms: 0 },
        { authorization: `Bearer ${key}` },
      );
      expect([second.status, await second.json()]).toMatchObject([429, { code: 'rate_limited' }]);
      expect(await codeOf(podgate().sessions.open(session.id).bash('id'))).toBe('404 not_found');
    });

    test(`are ${place.many} at once, each with its own files and interpreter`, async () => {
      const begunMs = Date.now();
      const sessions = await inTurn(place.many, () => make());
      const madeMs = Date.now() - begunMs;
      expect(taken()).toBe(place.many);
      const said = await inTurn(place.many, async (index) => {
        const session = sessions[index] as Session;
        await session.bash(`echo ${index} > own`);
        await session.execute(`own = ${index}`);
        return (await session.execute('own, open("own").read()')).stdout;
      });
      expect(said).toEqual(sessions.map((_, index) => `(${index}, '${index}\\n')\n`));
      const usedMs = Date.now() - begunMs - madeMs;
      expect((await podgate().sessions.list({ limit: 100 })).sessions).toHaveLength(place.many);
      await Promise.all(sessions.map((session) => session.end()));
      await eventually(async () => taken() === 0);
      if (process.env.PODGATE_TEST_LOG)
        process.stderr.write(`${name}: ${place.many} sessions made in ${madeMs} ms, used in ${usedMs} ms\n`);
    });
  });
}
