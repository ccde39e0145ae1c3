import { expect, test } from 'vitest';
import { FileLedger } from '../../gateway/files/file-ledger.ts';

const FILES = 20_000;
const TTL_MS = 1_000_000_000;
const HOLDING = { principal: 'anna', holder: 'anna' };

/** A ledger of FILES files, one a second, that counts how often it asks one for its time. */
function countedLedger() {
  const clock = { ms: FILES * 1_000 };
  const limits = { maxFileBytes: 1, maxBytes: FILES, maxFiles: FILES, ttlMs: TTL_MS };
  const ledger = new FileLedger(limits, () => clock.ms);
  let asked = 0;
  const idOf = (index: number) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
  for (let index = 0; index < FILES; index += 1) {
    const meta = {
      file_id: idOf(index),
      filename: 'a',
      size_bytes: 1,
      get upload_time() {
        asked += 1;
        return index;
      },
    };
    ledger.restore({ ...HOLDING, meta });
  }
  /** How often while `work` is done. */
  const asksOf = (work: () => void) => {
    asked = 0;
    work();
    return asked;
  };
  return { ledger, clock, idOf, asksOf };
}

test('a page looks at few files, wherever it begins, and however many there are', () => {
  const { ledger, clock, idOf, asksOf } = countedLedger();
  let cursor: string | undefined = `${FILES / 2}_${idOf(FILES / 2)}`;
  const next = () => {
    const { files, next_cursor } = ledger.list(HOLDING.principal, 1, cursor);
    cursor = next_cursor ?? undefined;
    return files.map(({ file_id }) => file_id);
  };
  const asks = asksOf(() => expect(next()).toEqual([idOf(FILES / 2 + 1)]));
  expect(asks).toBeLessThan(100);
  ledger.remove(idOf(FILES / 2 + 1));
  expect(next()).toEqual([idOf(FILES / 2 + 2)]);
  // All but the last have expired, and nobody has removed them yet.
  clock.ms = (FILES - 2) * 1_000 + TTL_MS;
  const late = asksOf(() => expect(next()).toEqual([idOf(FILES - 1)]));
  expect(late).toBeLessThan(100);
  expect(cursor).toBeUndefined();
});

test('a file that goes is found among few, also the first', () => {
  const { ledger, idOf, asksOf } = countedLedger();
  for (const index of [0, 1, FILES / 2, FILES - 1])
    expect(asksOf(() => ledger.remove(idOf(index)))).toBeLessThan(100);
  expect(ledger.list(HOLDING.principal, 1, undefined).files).toMatchObject([{ file_id: idOf(2) }]);
});
