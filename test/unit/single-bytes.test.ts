import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const READER = fileURLToPath(new URL('../fakes/single-bytes.ts', import.meta.url));

/** Bytes that a process holds for a body of so many chunks of one byte, when all of them have come. */
async function heldBy(how: string, chunks: number): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--expose-gc',
    READER,
    how,
    String(chunks),
  ]);
  return Number(stdout);
}

test.each(['read', 'discard', 'cutoff'])(
  'a body in single bytes costs what it has bytes, and not an object a byte: %s',
  async (how) => {
    const chunks = 300_000;
    expect(await heldBy(how, chunks)).toBeLessThan(20 * chunks);
  },
);
