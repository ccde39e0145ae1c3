import { expect, test } from 'vitest';
import { createPeers } from '../../agent/link/peers.ts';
import { MAX_PEERS, RECORD_TTL_MS } from '../../shared/limits.ts';

test('an agent remembers for ten minutes which other instances gateways told it of, and no longer', () => {
  let nowMs = 0;
  const peers = createPeers({ now: () => nowMs });
  peers.told(['b', 'a']);
  nowMs = 1;
  peers.told(['b']);
  nowMs = RECORD_TTL_MS - 1;
  expect(peers.known()).toEqual(['a', 'b']);
  nowMs = RECORD_TTL_MS;
  expect(peers.known()).toEqual(['b']);
  nowMs = RECORD_TTL_MS + 1;
  expect(peers.known()).toEqual([]);
});

test('an agent remembers as many as one HELLO has room for, the newest', () => {
  const peers = createPeers({ now: () => 0 });
  const names = Array.from({ length: MAX_PEERS + 1 }, (_, index) => `instance-${index}`);
  peers.told(names.slice(0, MAX_PEERS));
  expect(peers.known()).toHaveLength(MAX_PEERS);
  peers.told(names.slice(MAX_PEERS));
  expect(peers.known()).toEqual(names.slice(1));
});
