import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Cluster } from '../../agent/cluster.ts';
import type { Link } from '../../agent/link/link.ts';
import { createSlots } from '../../agent/slots.ts';
import type { FromAgent } from '../../shared/messages.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

const MAX = 3;
const NAMES = ['a', 'b'];
const PLACES = NAMES.flatMap((cluster) => NAMES.map((template) => ({ cluster, template })));

/** Two clusters of two templates, and links that keep what they are told. `looked`: at whose capacity, since it was read. */
function createFleet() {
  const clock = createFakeClock();
  let looks: string[] = [];
  const pools = PLACES.map(({ cluster, template }) => {
    const capacity = () => {
      looks.push(`${cluster}/${template}`);
      return pool.free;
    };
    const pool = { cluster, template: { name: template }, free: MAX, capacity };
    return pool;
  });
  const clusters = new Map(
    NAMES.map((name) => {
      const own = pools.filter(({ cluster }) => cluster === name);
      return [name, { name, pools: () => own, announcement: () => ({ name, templates: [] }) }];
    }),
  );
  const slots = createSlots(clusters as unknown as Map<string, Cluster>, clock, () => {});

  function join(serverId: string) {
    const left = new Map<string, number>();
    const granted = new Map<string, number>();
    const link = {
      serverId,
      left,
      send(_name: string, { grants }: FromAgent['SLOTS']) {
        for (const { cluster, template, granted: all } of grants) {
          const key = `${cluster}/${template}`;
          left.set(key, (left.get(key) ?? 0) + all - (granted.get(key) ?? 0));
          granted.set(key, all);
        }
      },
    };
    slots.joined(link as unknown as Link);
    return link;
  }

  async function looked(): Promise<string[]> {
    await clock.settle();
    const found = looks;
    looks = [];
    return found;
  }
  return { slots, pools, join, looked };
}

test('an execution has its own pool looked at alone, a change of a cluster that cluster, and a link all', async () => {
  const { slots, join, looked } = createFleet();
  const link = join('here');
  expect(await looked()).toEqual(['a/a', 'a/b', 'b/a', 'b/b']);
  slots.freed('a', 'b');
  slots.freed('a', 'b');
  expect(await looked()).toEqual(['a/b']);
  slots.changed('b', 'a');
  slots.freed('a', 'a');
  expect(await looked()).toEqual(['b/a', 'a/a']);
  slots.changed('b');
  slots.freed('b', 'a');
  slots.freed('gone', 'a');
  expect(await looked()).toEqual(['b/a', 'b/b']);
  slots.gone(link as unknown as Link);
  expect(await looked()).toEqual(['a/a', 'a/b', 'b/a', 'b/b']);
});

test('over every history each replica has all granted that is free, and no more than there is', async () => {
  const pick = fc.nat(11);
  const step = fc.oneof(
    fc.record({ do: fc.constant('join' as const), pick }),
    fc.record({ do: fc.constant('leave' as const), pick }),
    { weight: 5, arbitrary: fc.record({ do: fc.constant('start' as const), pick, place: fc.nat(3) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('end' as const), place: fc.nat(3) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), async (history) => {
      const { slots, pools, join, looked } = createFleet();
      const links = new Set<ReturnType<typeof join>>();
      for (const what of history) {
        const link = 'pick' in what ? [...links][what.pick % Math.max(1, links.size)] : undefined;
        const pool = 'place' in what ? pools[what.place] : undefined;
        const key = pool && `${pool.cluster}/${pool.template.name}`;
        if (what.do === 'join') links.add(join(what.pick % 2 === 0 ? 'here' : 'there'));
        else if (what.do === 'leave' && link) {
          links.delete(link);
          slots.gone(link as unknown as Link);
        } else if (what.do === 'start' && link && pool && key && (link.left.get(key) ?? 0) > 0) {
          link.left.set(key, (link.left.get(key) ?? 0) - 1);
          slots.spent(link as unknown as Link, pool.cluster, pool.template.name);
          // Another replica may have been faster: then it is a NACK and nothing runs.
          if (pool.free > 0) pool.free -= 1;
          slots.freed(pool.cluster, pool.template.name);
        } else if (what.do === 'end' && pool && pool.free < MAX) {
          pool.free += 1;
          slots.freed(pool.cluster, pool.template.name);
        }
        await looked();
        for (const replica of new Set([...links].map(({ serverId }) => serverId)))
          for (const { cluster, template, free } of pools.map((each) => ({
            ...each,
            template: each.template.name,
          }))) {
            const own = [...links].filter(({ serverId }) => serverId === replica);
            const left = own.reduce((sum, each) => sum + (each.left.get(`${cluster}/${template}`) ?? 0), 0);
            expect(left).toBeGreaterThanOrEqual(free);
            expect(left).toBeLessThanOrEqual(MAX);
          }
      }
    }),
  );
});
