import * as z from 'zod';

/** Of what each word stands for; probe/ says no more. */
export const MAX_WHEREABOUTS = 4;
const MAX_ADDRESSES = 8;

const addresses = (most: number) => z.array(z.union([z.ipv4(), z.ipv6()])).max(most);
const whereabouts = addresses(MAX_WHEREABOUTS);

const peerSchema = z.object({
  mark: z.string().max(64),
  addresses: addresses(MAX_ADDRESSES),
  port: z.int().min(0).max(65_535),
  whereabouts: z.object({ nameserver: whereabouts, apiserver: whereabouts, node: whereabouts }),
});

/** Where another sandbox can be met, and where it is told that its cluster is. */
export type Peer = z.output<typeof peerSchema>;

/** Throws where it is no such line: a sandbox wrote it. */
export function parsePeer(text: string): Peer {
  return peerSchema.parse(JSON.parse(text));
}
