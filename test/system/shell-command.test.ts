import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { WebSocketServer } from 'ws';
import { type Fleet, type FleetAgent, type FleetGateway, startFleet } from '../fakes/fleet.ts';
import { Tmux, tmuxTrouble } from '../fakes/tmux.ts';

const PATIENCE_MS = 120_000;
vi.setConfig({ testTimeout: PATIENCE_MS, hookTimeout: PATIENCE_MS });

type Shell = {
  fleet(): Fleet;
  terminal(): Tmux;
  /** In a shell of its own, whose prompt is known. */
  enter(tmux: Tmux, ...args: string[]): Promise<void>;
};

/** Tests one after the other with a fleet of their own, beside those of other titles. */
function describeShell(title: string, body: (shell: Shell) => void): void {
  const trouble = tmuxTrouble();
  let fleet: Fleet;
  const prepare = () => {
    beforeAll(async () => {
      if (trouble !== undefined) return;
      fleet = await startFleet({
        gateways: 1,
        agents: [{ cluster: 'lab' }],
        templates: [
          {
            name: 'default',
            languages: ['python', 'bash'],
            pool: { min: 1, max: 3 },
            resources: { cpu_seconds: 20 },
          },
        ],
        variables: { PODGATE_HEARTBEAT_MS: '1000' },
      });
      await fleet.ready();
    });
    afterAll(async () => {
      await fleet?.[Symbol.asyncDispose]();
    });
    beforeEach((context) => {
      if (trouble !== undefined) context.skip(trouble);
    });
    body({
      fleet: () => fleet,
      terminal: () => new Tmux({ PODGATE_URL: fleet.url, PODGATE_KEY: fleet.key }),
      async enter(tmux, ...args) {
        tmux.type(`podgate shell ${args.join(' ')}`, 'Enter');
        await tmux.shows(/\$ ?$/m);
        tmux.type("PS1='in> '; clear", 'Enter');
        await tmux.shows(/^in> *$/m);
      },
    });
  };
  describe('podgate shell', { concurrent: true }, () => {
    describe(title, { concurrent: false }, prepare);
  });
}

describeShell('on a real terminal', ({ fleet, terminal, enter }) => {
  test('edits and saves with vim, sees its size change, and leaves the terminal as it was', async () => {
    await using session = await fleet().client().sessions.create();
    using tmux = terminal();
    await enter(tmux, session.id);
    tmux.type('vim -u NONE note.txt', 'Enter');
    await tmux.shows('note.txt');
    tmux.type('i', 'first line', 'Enter', 'second line', 'Escape');
    tmux.resize(100, 40);
    await tmux.shows(/second line\n(~\n){30,}/);
    tmux.type(':wq', 'Enter');
    await tmux.shows(/^in> *$/m);
    tmux.type('stty size; cat note.txt', 'Enter');
    await tmux.shows(/40 100\nfirst line\nsecond line\n/);
    expect((await session.bash('cat note.txt')).stdout).toBe('first line\nsecond line\n');
    tmux.type('exit 7', 'Enter');
    await tmux.shows('local>');
    tmux.type('echo status $?; stty -a | grep -o " -*icanon\\| -*echo "', 'Enter');
    await tmux.shows(/status 7\n *icanon\n *echo/);
  });

  test('interrupts what runs with Ctrl-C, and suspends it with Ctrl-Z', async () => {
    await using session = await fleet().client().sessions.create();
    using tmux = terminal();
    await enter(tmux, session.id);
    tmux.type('echo be""gun; sleep 1000', 'Enter');
    await tmux.shows(/^begun$/m);
    tmux.type('C-c');
    await tmux.shows(/\^C\nin>/);
    tmux.type('clear; echo in""deed; sleep 1000', 'Enter');
    await tmux.shows(/^indeed$/m);
    tmux.type('C-z');
    await tmux.shows('Stopped');
    tmux.type('~', '~', '.', 'C-u');
    tmux.type('exit; exit', 'Enter');
    await tmux.shows('local>');
  });

  test('makes a session where none is named, which ends with its shell', async () => {
    const before = (await fleet().client().sessions.list()).sessions.length;
    using tmux = terminal();
    await enter(tmux, '--ttl', '600');
    expect((await fleet().client().sessions.list()).sessions.length).toBe(before + 1);
    tmux.type('exit', 'Enter');
    await tmux.shows('local>');
    expect((await fleet().client().sessions.list()).sessions.length).toBe(before);
  });

  test('leaves with ~. and says how to come back, to what went on meanwhile', async () => {
    await using session = await fleet().client().sessions.create();
    using tmux = terminal();
    await enter(tmux, session.id);
    tmux.type('for n in 1 2 3; do sleep 0.3; echo done$n; done', 'Enter', '~', '.');
    await tmux.shows('podgate shell: it goes on; come back with: podgate shell');
    await session.bash('sleep 1.5');
    tmux.type('clear; echo status $?', 'Enter');
    await tmux.shows('status 0');
    tmux.type(`podgate shell ${session.id}`, 'Enter');
    await tmux.shows(/done1\ndone2\ndone3\nin>/);
    tmux.type('exit', 'Enter');
    await tmux.shows('local>');
  });

  test('comes back by itself after its links were cut and after its gateway was killed, with every byte and key', async () => {
    await using session = await fleet().client().sessions.create();
    const [gateway] = fleet().gateways as [FleetGateway];
    const [agent] = fleet().agents as [FleetAgent];
    using tmux = terminal();
    await enter(tmux, session.id);
    tmux.type('for n in 1 2 3 4 5 6 7 8 9; do echo line$n; sleep 0.3; done', 'Enter');
    await tmux.shows('line2');
    agent.wire.cut();
    await tmux.shows(/line1\nline2\nline3\nline4\nline5\nline6\nline7\nline8\nline9\nin>/);
    tmux.type('clear', 'Enter');
    await tmux.shows(/^in> *$/m);
    tmux.type('for n in 1 2 3 4 5 6; do echo row$n; sleep 0.3; done', 'Enter');
    await tmux.shows('row2');
    gateway.kill('SIGKILL');
    await gateway.ended();
    tmux.type('echo typed mean""while', 'Enter');
    await fleet().ready();
    await tmux.shows('typed meanwhile');
    await tmux.shows(/row1\n(?:.*\n)*.*row6\n/);
    tmux.type('clear; stty size; exit 3', 'Enter');
    await tmux.shows('local>');
    tmux.type('echo status $?', 'Enter');
    await tmux.shows('status 3');
  });

  test('does not let a program reach the terminal beyond its screen, nor leave it in disorder', async () => {
    await using session = await fleet().client().sessions.create();
    using tmux = terminal();
    // It is a terminal that could be reached.
    tmux.type('printf \'\\033]52;c;b3duIHByb2dyYW0=\\007\'; echo sa""id', 'Enter');
    await tmux.shows(/^said/m);
    expect(tmux.takeClipboard()).toBe('own program');
    await enter(tmux, session.id);
    tmux.type(
      "printf '\\033]52;c;aGVsbG8=\\007\\033[21t\\033]2;ti\\033[31mtle\\007\\033[?1049h\\033[?25l\\033[4hhidden'; exit",
      'Enter',
    );
    await tmux.shows('local>');
    tmux.type('echo al""ive', 'Enter');
    await tmux.shows(/^alive$/m);
    expect(tmux.takeClipboard()).toBe('');
    expect(tmux.state('#{alternate_on} #{cursor_flag} #{insert_flag}')).toBe('0 1 0');
  });

  test('leaves with ~. also a gateway that says nothing more', async () => {
    const server = new WebSocketServer({
      port: 0,
      host: '127.0.0.1',
      handleProtocols: ([name = '']) => name,
    });
    onTestFinished(() => {
      for (const socket of server.clients) socket.terminate();
      server.close();
    });
    server.on('connection', (socket) => {
      const offsets = { output_offset: 0, input_offset: 0 };
      const state = { type: 'attached', terminal: 'main', created: true, execution_id: 'x', ...offsets };
      socket.send(JSON.stringify(state));
      socket.send(Buffer.from('here> '));
      socket.pause();
    });
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    using tmux = new Tmux({ PODGATE_URL: url, PODGATE_KEY: 'k' });
    tmux.type('podgate shell x; echo status $?', 'Enter');
    await tmux.shows('here>');
    tmux.type('Enter', '~.');
    await tmux.shows(/it goes on; come back with: podgate shell x\nstatus 0\n/);
  });

  test('needs a terminal, and says so', async () => {
    using tmux = terminal();
    tmux.type('podgate shell </dev/null', 'Enter');
    await tmux.shows('this needs a terminal');
    tmux.type('clear; podgate shell none', 'Enter');
    await tmux.shows("Session 'none' not found");
    tmux.type('stty -a | grep -o " -*icanon"', 'Enter');
    await tmux.shows(/\n *icanon/);
  });
});

describeShell('that loses its gateway', ({ fleet, terminal, enter }) => {
  test('says that its connection is lost for as long as it is, and no longer', async () => {
    // Ends with its fleet: there is no gateway then that could be asked to.
    const session = await fleet().client().sessions.create();
    const [gateway] = fleet().gateways as [FleetGateway];
    using tmux = terminal();
    await enter(tmux, session.id);
    const lose = async () => {
      gateway.kill('SIGKILL');
      await gateway.ended();
      await tmux.shows('the connection is lost');
    };
    await lose();
    await fleet().ready();
    tmux.type('echo he""re', 'Enter');
    expect(await tmux.shows(/^here$/m)).not.toContain('the connection is lost');
    await lose();
    tmux.type('Enter', '~', '.');
    expect(await tmux.shows('podgate shell: it goes on; come back with')).not.toContain(
      'the connection is lost',
    );
  });
});
