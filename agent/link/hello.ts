import { HEADER_BYTES, PROTOCOL_VERSION } from '../../shared/frame.ts';
import { MAX_HELLO_BYTES } from '../../shared/limits.ts';
import type { FromAgent } from '../../shared/messages.ts';
import { fitNames } from '../fit-announcements.ts';
import type { LinkDeps } from './link.ts';

/** HELLO with as many of the clusters' names as it has room for: SLOTS names the others. */
export function helloBody(
  { instance, software, clusters, peers }: Pick<LinkDeps, 'instance' | 'software' | 'clusters' | 'peers'>,
  proof: FromAgent['AUTH_REFRESH'],
): FromAgent['HELLO'] {
  const hello = {
    ...proof,
    min_version: PROTOCOL_VERSION,
    max_version: PROTOCOL_VERSION,
    instance,
    software,
    peers: peers.known(),
  };
  const taken = HEADER_BYTES + Buffer.byteLength(JSON.stringify({ ...hello, clusters: [] })) - '[]'.length;
  return { ...hello, clusters: fitNames(clusters, MAX_HELLO_BYTES - taken) };
}
