/** An instance, whichever replicas its links end at. */
export type LinkAddress = { readonly tenant: string; readonly instance: string };

/** What one side of a channel has sent and the other has not taken: as much as a stream's window. */
export const MAX_CHANNEL_BYTES = 262_144;
/** What a message counts at least, so that empty ones are bounded too. */
export const MIN_MESSAGE_COST_BYTES = 64;
/** Channels that one replica takes part in: past it, opening one finds nobody. */
export const MAX_CHANNELS = 10_000;

/** A pipe between two replicas: messages in order, both ways, each taken once. */
export type LinkChannel = {
  /**
   * Resolves when the message is on its way; it waits for room. One over MAX_MESSAGE_BYTES is `too_large`. Rejects with
   * `agent_lost` once either side has closed or the other replica is gone. The bytes are the caller's own again.
   */
  send(message: Uint8Array): Promise<void>;
  /**
   * What the other side sends. Ends behind its last message when it has closed; throws `agent_lost` when its replica is
   * gone. For one reader, who closes the channel by leaving the loop.
   */
  messages(): AsyncGenerator<Uint8Array, void, undefined>;
  /** What was sent before still arrives. */
  close(): void;
};

/**
 * How a replica reaches instances whose links end at another one: a port. In one process it is memory; between several
 * it will be an engine that is there already. Replicas do not find each other by themselves.
 */
export type ReplicaLinks = {
  /**
   * A link to this instance ends here: `accept` gets the channels that other replicas open to it. Returns how to take
   * the offer back; channels that are open stay.
   */
  offer(address: LinkAddress, accept: (channel: LinkChannel) => void): () => void;
  /** A channel to another replica that offers the instance; undefined, and at once, where none does. */
  open(address: LinkAddress, signal: AbortSignal): Promise<LinkChannel | undefined>;
};
