import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { soak } from '../soak/soak.ts';
import { describeSandboxed } from '../system/suite.ts';

const TEST_MS = 240_000;
const SHORT = { durationMs: 8_000, callers: 4, gateways: 2, agents: 2 };

// `npm run soak` is the long one. This one shows that it runs, and that what it counts is there.
describeSandboxed('A soak of a few seconds', () => {
  const folders: string[] = [];
  afterEach(async () => {
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
  });

  test(
    'loses nothing, runs nothing twice and leaves nothing',
    async () => {
      const logs = await mkdtemp(join(tmpdir(), 'podgate-soak-'));
      folders.push(logs);
      const said: string[] = [];
      const tally = await soak({ ...SHORT, seed: 'short', logs, say: (line) => said.push(line) });
      expect(tally.told).toEqual([]);
      expect(tally.results).toBeGreaterThan(0);
      expect(said.join('\n')).toMatch(/^faults +\w+ \d+/m);
      const made = /^of those planned +(\d+) of (\d+),/m.exec(said.join('\n'));
      expect(made?.[1]).toBe(made?.[2]);
      expect(Number(made?.[1])).toBeGreaterThan(0);
    },
    TEST_MS,
  );
});
