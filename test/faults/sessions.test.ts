import { createHash, randomBytes } from 'node:crypto';
import { expect, test, vi } from 'vitest';
import { eventually } from '../fakes/eventually.ts';
import type { FleetAgent, FleetGateway } from '../fakes/fleet.ts';
import { countRunning } from '../fakes/process-tree.ts';
import { describeFleet } from './suite.ts';

const PATIENCE_MS = 60_000;

describeFleet(
  'A session is whole',
  {
    gateways: 2,
    agents: [{ cluster: 'lab' }],
    templates: [{ name: 'default', languages: ['python', 'bash'], pool: { min: 1, max: 3 } }],
    variables: { PODGATE_HEARTBEAT_MS: '1000', PODGATE_FILE_STORE: 'none' },
  },
  (fleet) => {
    vi.setConfig({ testTimeout: PATIENCE_MS });
    const lab = () => fleet().agents[0] as FleetAgent;

    /** A session with something in its workspace and in its interpreter. */
    async function begun(gateway: FleetGateway) {
      const session = await fleet().client(gateway).sessions.create({ ttl_seconds: 600 });
      await session.execute('x = 41');
      await session.bash('echo kept > file');
      return session;
    }
    const runsIn = async (gateway: FleetGateway, id: string) => {
      const state = await fleet().client(gateway).sessions.open(id).state();
      return state.running;
    };

    test('after its links were cut in the middle of a command, which goes on and is answered whole', async () => {
      await fleet().ready();
      const [first] = fleet().gateways as [FleetGateway];
      const session = await begun(first);
      const command = session.bash('for n in 1 2 3 4 5 6; do echo $n; sleep 0.5; done; cat file');
      await eventually(async () => (await runsIn(first, session.id)) === 1);
      lab().wire.cut();
      expect(await command).toMatchObject({ stdout: '1\n2\n3\n4\n5\n6\nkept\n', exit_code: 0 });
      expect((await session.execute('x + 1')).stdout).toBe('42\n');
      await session.end();
    });

    test('in what its Python gave: events of either replica tell results, error and context as its answer did', async () => {
      await fleet().ready();
      const [first] = fleet().gateways as [FleetGateway];
      const session = await begun(first);
      const asked = { rich: true, context: 'other' };
      const inOther = (code: string) =>
        session.execute({ code, ...asked }, { idempotencyKey: crypto.randomUUID() });
      const shown = await inOther('print(1)\n{"a": [41]}');
      const failed = await inOther('1 / 0');
      for (const { stdout: _, stderr: __, ...answered } of [shown, failed])
        for (const gateway of fleet().gateways) {
          let last: object = {};
          const { execution_id } = answered;
          for await (const event of fleet().client(gateway).executions.events(execution_id)) last = event;
          expect(last).toMatchObject({ type: 'result', ...answered, files: [], files_omitted: [] });
        }
      expect([shown.results.length, failed.error?.name, failed.context]).toEqual([
        1,
        'ZeroDivisionError',
        'other',
      ]);
      await session.end();
    });

    test('in what its Python gave after its gateway was killed: whoever streamed it has results and context', async () => {
      await fleet().ready();
      const [first, second] = fleet().gateways as [FleetGateway, FleetGateway];
      const { id } = await begun(first);
      fleet().balancer.setTargets([first]);
      const session = fleet().client().sessions.open(id);
      const code = 'import time\nprint("begun", flush=True)\ntime.sleep(2)\nx';
      const seen: object[] = [];
      for await (const event of session.stream(
        { code, rich: true },
        { idempotencyKey: crypto.randomUUID() },
      )) {
        if (seen.length === 0) {
          fleet().balancer.setTargets([second]);
          first.kill('SIGKILL');
        }
        seen.push(event);
      }
      expect(seen.at(-1)).toMatchObject({
        type: 'result',
        results: [{ kind: 'result', data: { 'text/plain': '41' } }],
        error: null,
        context: 'main',
        context_state: 'kept',
      });
      fleet().balancer.setTargets(fleet().gateways);
      await session.end();
    });

    test('after its links were cut again and again while a program was fed that read nothing: it has each byte once', async () => {
      await fleet().ready();
      const [first] = fleet().gateways as [FleetGateway];
      const session = await begun(first);
      const waits = 'until test -e go; do sleep 0.05; done';
      const program = await session.spawn({ cmd: `${waits}; sha256sum`, timeout_ms: PATIENCE_MS });
      const input = randomBytes(1_500_000);
      const writing = program.write(new Blob([input]), { close: true });
      for (let cuts = 0; cuts < 3; cuts += 1) {
        await session.bash('sleep 0.5');
        lab().wire.cut();
        await fleet().ready();
      }
      await session.bash('touch go');
      expect(await writing).toEqual({ bytes: input.byteLength, open: false });
      let said = '';
      for await (const event of program) if (event.type === 'output') said += event.data;
      expect(said).toContain(createHash('sha256').update(input).digest('hex'));
      await session.end();
    });

    test('after the link was lost that its agent answered a program’s last input over: it has come, once', async () => {
      await fleet().ready();
      const [first] = fleet().gateways as [FleetGateway];
      const session = await begun(first);
      const cat = await session.spawn('cat; sleep 4321');
      const events = cat[Symbol.asyncIterator]();
      const pieces = new TransformStream<Uint8Array<ArrayBuffer>>();
      const writer = pieces.writable.getWriter();
      const writing = cat.write(pieces.readable, { close: true });
      await writer.write(Buffer.from('said\n'));
      expect((await events.next()).value).toMatchObject({ data: 'said\n' });
      lab().wire.stall(true, 'up');
      await writer.close();
      await eventually(async () => countRunning('sleep', '4321') > 0);
      lab().wire.cut();
      lab().wire.stall(false, 'up');
      expect(await writing).toEqual({ bytes: 5, open: false });
      await session.end();
    });

    test('after its gateway was killed in the middle of a command: another replica finds it by its id', async () => {
      await fleet().ready();
      const [first, second] = fleet().gateways as [FleetGateway, FleetGateway];
      const session = await begun(first);
      const command = session.bash('echo x > begun; sleep 60').catch((error: unknown) => error);
      await eventually(async () => (await runsIn(second, session.id)) === 1);
      first.kill('SIGKILL');
      expect(await command).toMatchObject({ code: 'connection_lost', started: 'unknown' });
      const elsewhere = fleet().client(second).sessions.open(session.id);
      expect((await elsewhere.bash('cat file')).stdout).toBe('kept\n');
      expect((await elsewhere.execute('x + 1')).stdout).toBe('42\n');
      await fleet().ready();
      const again = fleet().client(first).sessions.open(session.id);
      expect((await again.execute('x += 1; x')).stdout).toBe('42\n');
      await elsewhere.end();
      await expect(again.state()).rejects.toMatchObject({ status: 404 });
    });
  },
);
