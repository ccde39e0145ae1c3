import { expect, test } from 'vitest';
import type { Lease } from '../../../agent/backends/kubernetes/kube-objects.ts';
import { LEASE_SLACK_MS, LeaseBook } from '../../../agent/backends/kubernetes/lease-book.ts';

const DURATION_MS = 15_000;

function lease(name: string, renewTime: string, creationTimestamp = '2026-01-01T00:00:00Z'): Lease {
  const labels = { 'podgate.dev/instance': name };
  return {
    metadata: { name, uid: name, creationTimestamp, labels },
    spec: { leaseDurationSeconds: DURATION_MS / 1000, renewTime },
  };
}
const names = (leases: readonly Lease[]) => leases.map(({ metadata }) => metadata?.name);

test('a Lease is dead once it has stood unchanged for its duration and the slack, and not before', () => {
  const book = new LeaseBook();
  book.observe([lease('a', '1')], 0);
  book.observe([lease('a', '1')], DURATION_MS);
  expect(names(book.expired(DURATION_MS + LEASE_SLACK_MS))).toEqual([]);
  expect(names(book.expired(DURATION_MS + LEASE_SLACK_MS + 1))).toEqual(['a']);
});

test('a time from a clock that is years behind is as good as any, as long as it changes', () => {
  const book = new LeaseBook();
  for (let at = 0; at < 120_000; at += 10_000) book.observe([lease('a', `1999-${at}`)], at);
  expect(book.expired(119_000)).toEqual([]);
});

test('what could not be observed proves nothing', () => {
  const book = new LeaseBook();
  book.observe([lease('a', '1')], 0);
  book.forget();
  book.observe([lease('a', '1')], 60_000);
  expect(book.expired(61_000)).toEqual([]);
});

test('what stood unchanged while nobody looked for a whole duration proves nothing', () => {
  const book = new LeaseBook();
  const lookedMs = DURATION_MS + LEASE_SLACK_MS;
  book.observe([lease('a', '1'), lease('b', '1')], 0);
  book.observe([lease('a', '1')], lookedMs);
  expect(names(book.expired(lookedMs + 1))).toEqual(['a']);
  book.observe([lease('a', '1')], 2 * lookedMs + 1);
  expect(book.expired(3 * lookedMs + 1)).toEqual([]);
  expect(names(book.expired(3 * lookedMs + 2))).toEqual(['a']);
});

test('what stood unchanged before the observer itself was heard proves nothing', () => {
  const book = new LeaseBook();
  const lastsMs = DURATION_MS + LEASE_SLACK_MS;
  book.observe([lease('a', '1')], 0);
  book.observe([lease('a', '1')], 10_000, 9_000);
  expect(book.expired(9_000 + lastsMs)).toEqual([]);
  expect(names(book.expired(9_000 + lastsMs + 1))).toEqual(['a']);
});

test('the oldest living Lease leads', () => {
  const book = new LeaseBook();
  const older = lease('z', '1', '2026-01-01T00:00:00Z');
  const newer = lease('a', '1', '2026-01-02T00:00:00Z');
  book.observe([newer, older], 0);
  expect(book.leader(0)?.metadata?.name).toBe('z');
  book.observe([lease('a', '2', '2026-01-02T00:00:00Z'), older], 15_000);
  expect(book.leader(21_000)?.metadata?.name).toBe('a');
  book.observe([], 22_000);
  expect(book.leader(22_000)).toBeUndefined();
});
