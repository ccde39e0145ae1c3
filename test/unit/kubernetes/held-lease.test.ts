import { expect, test } from 'vitest';
import { holdLease, LEASE_RENEW_MS } from '../../../agent/backends/kubernetes/held-lease.ts';
import type { Call, KubeClient } from '../../../agent/backends/kubernetes/kube-client.ts';
import { KubeRefusal } from '../../../agent/backends/kubernetes/kube-failure.ts';
import { orAborted } from '../../../agent/deadline.ts';
import { createFakeClock } from '../../fakes/fake-clock.ts';

/** A Lease and a server that answers one call at a time: when the test says so. */
async function hold({ isThere = false } = {}) {
  const clock = createFakeClock();
  const held: { method: string; answer: () => void }[] = [];
  /** Calls that wait behind sockets which hang. */
  const lesser: string[] = [];
  let isHeld = false;

  function perform({ method, body }: Call): unknown {
    if (method === 'POST' && isThere) throw refusal(409);
    if (method === 'POST') isThere = true;
    else if (!isThere) throw refusal(404);
    if (method === 'DELETE') isThere = false;
    return body ?? {};
  }

  function call(wanted: Call): Promise<unknown> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (!wanted.vital) lesser.push(wanted.method);
    if (isHeld && wanted.method !== 'DELETE') held.push({ method: wanted.method, answer: resolve });
    else resolve();
    return promise.then(() => perform(wanted));
  }

  const lease = await holdLease({
    client: { call } as unknown as KubeClient,
    namespace: 'sandboxes',
    installation: 'main',
    instance: 'own',
    clock,
    log: () => {},
    onReplaced: () => {},
  });
  return {
    lease,
    clock,
    lesser,
    isThere: () => isThere,
    /** As whoever takes the instance for dead does. */
    lose() {
      isThere = false;
    },
    holdBack() {
      isHeld = true;
    },
    /** Answers what waits; returns which calls those were. */
    async answer() {
      const waiting = held.splice(0);
      for (const each of waiting) each.answer();
      await clock.settle();
      return waiting.map(({ method }) => method);
    },
  };
}

function refusal(httpStatus: number): KubeRefusal {
  return new KubeRefusal('backend_unavailable', 'No.', { httpStatus, reason: 'Fault', words: '' });
}

test('a Lease that was taken away is made again', async () => {
  const { lose, clock, isThere } = await hold();
  lose();
  await clock.advance(LEASE_RENEW_MS);
  expect(isThere()).toBe(true);
});

test('a Lease that is released while it is renewed is not made again', async () => {
  const { lease, holdBack, answer, clock, isThere } = await hold();
  holdBack();
  await clock.advance(LEASE_RENEW_MS);
  await lease.release();
  expect(await answer()).toEqual(['PUT']);
  expect(await answer()).toEqual([]);
  expect(isThere()).toBe(false);
});

test('a Lease that is released while it is made again is deleted', async () => {
  const { lease, lose, holdBack, answer, clock, isThere } = await hold();
  lose();
  holdBack();
  await clock.advance(LEASE_RENEW_MS);
  expect(await answer()).toEqual(['PUT']);
  await lease.release();
  expect(await answer()).toEqual(['POST']);
  await clock.settle();
  expect(isThere()).toBe(false);
});

test('a Lease that is being made when its agent ends is given up at once, and deleted where it was made', async () => {
  const stop = new AbortController();
  const asked: string[] = [];
  const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
  const call = async ({ method, signal = new AbortController().signal }: Call) => {
    asked.push(method);
    if (method === 'DELETE') return {};
    arrive();
    // The server has it, and does not answer.
    return orAborted(new Promise(() => {}), signal);
  };
  const held = holdLease({
    client: { call } as unknown as KubeClient,
    namespace: 'sandboxes',
    installation: 'main',
    instance: 'own',
    clock: createFakeClock(),
    log: () => {},
    onReplaced: () => {},
    signal: stop.signal,
  });
  await arrived;
  stop.abort(new Error('The agent ends.'));
  await expect(held).rejects.toThrow('The agent ends.');
  expect(asked).toEqual(['POST', 'DELETE']);
});

test('nothing about a Lease waits behind sockets that hang: it is found, renewed and released', async () => {
  const { lease, clock, lesser } = await hold({ isThere: true });
  await clock.advance(LEASE_RENEW_MS);
  await lease.release();
  expect(lesser).toEqual([]);
});
