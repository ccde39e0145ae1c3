import { expect, test, vi } from 'vitest';
import { MAX_TYPED_BYTES } from '../../cli/typed-input.ts';
import type { FleetAgent, FleetGateway } from '../fakes/fleet.ts';
import { describeShell } from '../system/shell-suite.ts';

const PATIENCE_MS = 120_000;
vi.setConfig({ testTimeout: PATIENCE_MS, hookTimeout: PATIENCE_MS });

describeShell('on a real terminal', ({ fleet, terminal, enter }) => {
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
    // More than is kept until it comes back.
    for (let typed = 0; typed < MAX_TYPED_BYTES + 8_192; typed += 8_192) tmux.type('#'.repeat(8_192));
    await fleet().ready();
    await tmux.shows('####');
    await lose();
    tmux.type('Enter', '~', '.');
    const shown = await tmux.shows('podgate shell: it goes on; come back with');
    expect(shown).not.toContain('the connection is lost');
    expect(shown.replaceAll('\n', '')).toMatch(/podgate shell: \d+ bytes that were typed did not arrive/);
  });
});
