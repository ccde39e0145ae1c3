import { createMemoryChannel, type MemoryChannel } from './memory-channel.ts';
import { type LinkAddress, type LinkChannel, MAX_CHANNELS, type ReplicaLinks } from './replica-links.ts';

/** One replica among those of a process; disposing of it is its end, as the others see it. */
export type MemoryReplica = ReplicaLinks & Disposable;

type Offer = { readonly by: Set<MemoryChannel>; readonly accept: (channel: LinkChannel) => void };

/** Replicas in one process: no engine between them, and the contract that one will have to hold. */
export function createMemoryReplicas(): { join(): MemoryReplica } {
  const offers = new Map<string, Set<Offer>>();

  function withdraw(key: string, offer: Offer): void {
    const known = offers.get(key);
    known?.delete(offer);
    if (known?.size === 0) offers.delete(key);
  }

  return {
    join() {
      /** Those that it takes part in: they tell it from the others, too. */
      const mine = new Set<MemoryChannel>();
      const endings = new Set<() => void>();
      let gone = false;
      return {
        offer(address, accept) {
          if (gone) return () => {};
          const key = keyOf(address);
          const offer: Offer = { by: mine, accept };
          offers.set(key, (offers.get(key) ?? new Set()).add(offer));
          const end = () => {
            endings.delete(end);
            withdraw(key, offer);
          };
          endings.add(end);
          return end;
        },
        async open(address, signal) {
          signal.throwIfAborted();
          const found = [...(offers.get(keyOf(address)) ?? [])].find(
            ({ by }) => by !== mine && by.size < MAX_CHANNELS,
          );
          if (!found || gone || mine.size >= MAX_CHANNELS) return undefined;
          const sides = [mine, found.by];
          const channel = createMemoryChannel(() => {
            for (const side of sides) side.delete(channel);
          });
          for (const side of sides) side.add(channel);
          found.accept(channel.ends[1]);
          return channel.ends[0];
        },
        [Symbol.dispose]() {
          gone = true;
          for (const end of [...endings]) end();
          for (const channel of [...mine]) channel.lose();
        },
      };
    },
  };
}

function keyOf({ tenant, instance }: LinkAddress): string {
  return JSON.stringify([tenant, instance]);
}
