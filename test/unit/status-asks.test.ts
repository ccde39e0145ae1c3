import { expect, test } from 'vitest';
import { type StatusAnswer, StatusAsks } from '../../gateway/link/status-asks.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';

const TIMEOUT_MS = 2_000;
const answer = (ref: number, state: StatusAnswer['state'], execution_id = 'x'): StatusAnswer => ({
  ref,
  execution_id,
  state,
  record: null,
});

function ask() {
  const clock = createFakeClock();
  const asks = new StatusAsks({
    setTimeout: (callback, ms) => clock.after(ms, callback),
    clearTimeout: (cancel) => (cancel as (() => void) | undefined)?.(),
  });
  const sent: number[] = [];
  return { clock, asks, sent, send: (ref: number) => sent.push(ref) };
}

test('an answer that comes too late is no answer to what was asked since', async () => {
  const { clock, asks, sent, send } = ask();
  const first = asks.ask(TIMEOUT_MS, send);
  await clock.advance(TIMEOUT_MS);
  expect(await first).toBeNull();
  const ended = asks.askEnd('x', TIMEOUT_MS, () => {});
  const second = asks.ask(TIMEOUT_MS, send);
  asks.answer(answer(sent[0] as number, 'started'));
  asks.answer(answer(sent[1] as number, 'accepted'));
  asks.answer(answer(0, 'ended'));
  expect(await second).toMatchObject({ state: 'accepted' });
  expect(await ended).toMatchObject({ state: 'ended' });
});

test('ends are told to those who asked for them, one answer each, and nobody waits on a link that is gone', async () => {
  const { asks } = ask();
  const waiting = ['x', 'x', 'y', 'z'].map((id) => asks.askEnd(id, TIMEOUT_MS, () => {}));
  asks.answer(answer(0, 'ended', 'y'));
  asks.answer(answer(0, 'started'));
  asks.answer(answer(0, 'ended'));
  asks.close();
  const states = (await Promise.all(waiting)).map((found) => found?.state ?? null);
  expect(states).toEqual(['started', 'ended', 'ended', null]);
});
