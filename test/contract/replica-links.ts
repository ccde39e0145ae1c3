import { describe, expect, test } from 'vitest';
import {
  type LinkChannel,
  MAX_CHANNEL_BYTES,
  type ReplicaLinks,
} from '../../gateway/replicas/replica-links.ts';
import { MAX_MESSAGE_BYTES } from '../../shared/limits.ts';

/** Replicas that can reach each other. */
export type ReplicasUnderTest = {
  join(): Promise<ReplicaLinks>;
  /** Ends one as a process ends that is killed. */
  kill(replica: ReplicaLinks): Promise<void>;
};

const ADDRESS = { tenant: 'acme', instance: 'instance-1' };
const encoder = new TextEncoder();
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const never = () => new AbortController().signal;

/** What every way between replicas does. */
export function describeReplicaLinks(name: string, start: () => Promise<ReplicasUnderTest>): void {
  describe(`links of other replicas (${name})`, () => {
    /** Two replicas; the second has a link to the instance. */
    async function pair() {
      const replicas = await start();
      const [asking, linked] = [await replicas.join(), await replicas.join()];
      const taken: LinkChannel[] = [];
      const withdraw = linked.offer(ADDRESS, (channel) => taken.push(channel));
      return { replicas, asking, linked, taken, withdraw };
    }

    /** Both ends of a channel: of who opened it, and of who has the link. */
    async function channel() {
      const given = await pair();
      const here = (await given.asking.open(ADDRESS, never())) as LinkChannel;
      await expect.poll(() => given.taken.length).toBe(1);
      return { ...given, here, there: given.taken[0] as LinkChannel };
    }

    async function read(from: LinkChannel, count: number): Promise<string[]> {
      const seen: string[] = [];
      if (count === 0) return seen;
      const messages = from.messages();
      while (seen.length < count) seen.push(text((await messages.next()).value as Uint8Array));
      return seen;
    }

    async function all(from: LinkChannel): Promise<string[]> {
      const seen: string[] = [];
      for await (const message of from.messages()) seen.push(text(message));
      return seen;
    }

    test('carry messages both ways, in order, byte for byte', async () => {
      const { here, there } = await channel();
      const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
      for (const message of ['one', '', 'three']) await here.send(encoder.encode(message));
      await there.send(bytes);
      expect(await read(there, 3)).toEqual(['one', '', 'three']);
      expect((await here.messages().next()).value).toEqual(bytes);
    });

    test('keep what was sent when the sender writes over it', async () => {
      const { here, there } = await channel();
      const bytes = encoder.encode('first');
      await here.send(bytes);
      bytes.fill(0);
      expect(await read(there, 1)).toEqual(['first']);
    });

    test('keep the order of messages that nobody waited for', async () => {
      const { here, there } = await channel();
      const wanted = Array.from({ length: 50 }, (_, index) => `${index}`.padEnd(20_000));
      const sent = Promise.all(wanted.map((message) => here.send(encoder.encode(message))));
      expect(await read(there, 50)).toEqual(wanted);
      await sent;
    });

    test('are found by nobody where none is offered, and at once', async () => {
      const { asking } = await pair();
      expect(await asking.open({ ...ADDRESS, instance: 'instance-2' }, never())).toBeUndefined();
    });

    test('never cross tenants', async () => {
      const { asking } = await pair();
      expect(await asking.open({ ...ADDRESS, tenant: 'other' }, never())).toBeUndefined();
      expect(await asking.open({ tenant: 'acme","', instance: 'instance-1' }, never())).toBeUndefined();
    });

    test('do not lead a replica to itself', async () => {
      const { linked } = await pair();
      expect(await linked.open(ADDRESS, never())).toBeUndefined();
    });

    test('are found no more once the offer is taken back, and stay where they are open', async () => {
      const { asking, here, there, withdraw } = await channel();
      withdraw();
      withdraw();
      await expect.poll(() => asking.open(ADDRESS, never())).toBeUndefined();
      await here.send(encoder.encode('still'));
      expect(await read(there, 1)).toEqual(['still']);
    });

    test('are found at whichever replica has one left', async () => {
      const { replicas, asking, linked, taken } = await pair();
      const third = await replicas.join();
      const others: LinkChannel[] = [];
      third.offer(ADDRESS, (opened) => others.push(opened));
      await replicas.kill(linked);
      await expect
        .poll(async () => {
          await asking.open(ADDRESS, never());
          return others.length;
        })
        .toBeGreaterThan(0);
      expect(taken).toEqual([]);
    });

    test('end behind the last message when the other side closes', async () => {
      const { here, there } = await channel();
      await here.send(encoder.encode('last'));
      here.close();
      here.close();
      expect(await all(there)).toEqual(['last']);
      await expect(here.send(encoder.encode('more'))).rejects.toMatchObject({ code: 'agent_lost' });
      await expect(there.send(encoder.encode('back'))).rejects.toMatchObject({ code: 'agent_lost' });
    });

    test('are closed by a reader who leaves', async () => {
      const { here, there } = await channel();
      await here.send(encoder.encode('enough'));
      for await (const _ of there.messages()) break;
      await expect
        .poll(() => here.send(encoder.encode('more')).then(String, ({ code }) => code))
        .toBe('agent_lost');
      expect(await all(here)).toEqual([]);
    });

    test('are lost, and say so, when the replica that has the link is gone', async () => {
      const { replicas, linked, asking, here } = await channel();
      const reading = all(here);
      await replicas.kill(linked);
      await expect(reading).rejects.toMatchObject({ code: 'agent_lost', started: 'unknown' });
      await expect(here.send(encoder.encode('x'))).rejects.toMatchObject({ code: 'agent_lost' });
      await expect.poll(() => asking.open(ADDRESS, never())).toBeUndefined();
    });

    test('hold a sender back whose messages nobody takes, and nobody else', async () => {
      const { asking, taken, here, there } = await channel();
      const half = new Uint8Array(MAX_CHANNEL_BYTES / 2);
      await here.send(half);
      await here.send(half);
      let room = false;
      const late = here.send(new Uint8Array(1)).then(() => {
        room = true;
      });
      const other = (await asking.open(ADDRESS, never())) as LinkChannel;
      await expect.poll(() => taken.length).toBe(2);
      await other.send(encoder.encode('free'));
      expect(await read(taken[1] as LinkChannel, 1)).toEqual(['free']);
      expect(room).toBe(false);
      await there.messages().next();
      await late;
      expect(room).toBe(true);
    });

    test('let a sender go who waits for room when the other side closes', async () => {
      const { here, there } = await channel();
      await here.send(new Uint8Array(MAX_CHANNEL_BYTES));
      const late = here.send(new Uint8Array(1));
      there.close();
      await expect(late).rejects.toMatchObject({ code: 'agent_lost' });
    });

    test('bound empty messages too', async () => {
      const { here } = await channel();
      let sent = 0;
      const count = () => {
        sent += 1;
      };
      const most = 2 * (MAX_CHANNEL_BYTES / 64);
      for (let index = 0; index < most; index += 1) void here.send(new Uint8Array(0)).then(count, () => {});
      await expect.poll(() => sent).toBeGreaterThan(0);
      await new Promise(setImmediate);
      expect(sent).toBeLessThan(most);
    });

    test('take a message of the largest size, and none past it', async () => {
      const { here, there } = await channel();
      await here.send(new Uint8Array(MAX_MESSAGE_BYTES));
      expect((await there.messages().next()).value?.byteLength).toBe(MAX_MESSAGE_BYTES);
      const past = here.send(new Uint8Array(MAX_MESSAGE_BYTES + 1));
      await expect(past).rejects.toMatchObject({ code: 'too_large' });
    });

    test('are not opened for somebody who has given up', async () => {
      const { asking, taken } = await pair();
      await expect(asking.open(ADDRESS, AbortSignal.abort())).rejects.toThrow();
      expect(taken).toEqual([]);
    });
  });
}
