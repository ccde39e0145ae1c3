import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { WebSocketServer } from 'ws';
import { Tmux } from '../fakes/tmux.ts';
import { describeShell } from './shell-suite.ts';

const PATIENCE_MS = 120_000;
vi.setConfig({ testTimeout: PATIENCE_MS, hookTimeout: PATIENCE_MS });

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
