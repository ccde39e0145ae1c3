import { afterAll, beforeAll, beforeEach, describe } from 'vitest';
import { type Fleet, startFleet } from '../fakes/fleet.ts';
import { Tmux, tmuxTrouble } from '../fakes/tmux.ts';

type Shell = {
  fleet(): Fleet;
  terminal(): Tmux;
  /** In a shell of its own, whose prompt is known. */
  enter(tmux: Tmux, ...args: string[]): Promise<void>;
};

/** Tests one after the other with a fleet of their own, beside those of other titles. */
export function describeShell(title: string, body: (shell: Shell) => void): void {
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
