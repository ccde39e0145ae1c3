import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { openRunnerStream } from '../../agent/backends/runner-stream.ts';

test('a stream that opens as its wait is given up is given up too, though nobody says a word on it', async () => {
  const wait = new AbortController();
  const silent = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
  const opening = openRunnerStream({
    python: 'python3',
    signal: wait.signal,
    async open() {
      wait.abort(new Error('given up'));
      return silent;
    },
  });
  await expect(opening).rejects.toThrow('given up');
  expect(silent.destroyed).toBe(true);
});
