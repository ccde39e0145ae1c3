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

test.for([
  ['at once', ['podgate-shim: there\n']],
  ['in pieces', ['podgate-shim', ': there\n']],
  [
    'behind what a loader complains of',
    ["ERROR: ld.so: object '/none.so' cannot be preloaded\n", 'podgate-shim: there\n'],
  ],
  ['behind much that nobody reads', ['x'.repeat(5_000), '\npodgate-', 'shim: there\n']],
] as const)('a runner that is said to be there %s is reached', async ([, said]) => {
  const stream = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
  const opened = await openRunnerStream({
    python: 'python3',
    signal: AbortSignal.timeout(1_000),
    async open({ onStderr }) {
      for (const each of said) onStderr(Buffer.from(each));
      return stream;
    },
  });
  expect(opened).toBe(stream);
  stream.destroy();
});
