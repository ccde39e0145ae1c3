import { expect, test } from 'vitest';
import { ResultShelf } from '../../gateway/execution/result-shelf.ts';
import { RECORD_TTL_MS } from '../../shared/limits.ts';

const stored = (path: string) => ({
  files: [{ path, file_id: 'f', kind: 'file' as const }],
  filesOmitted: [],
  filesOmittedCount: 0,
});

test('of an execution’s end it keeps its files, whatever else there is', async () => {
  const shelf = new ResultShelf(() => 0);
  const ending = { ...stored('plot.png'), results: { results: [], results_omitted: [], error: null } };
  shelf.end('t', 'x', ending);
  expect(await shelf.find('t', 'x')).toEqual(stored('plot.png'));
});

test('what two readers stored of one execution counts once, and is gone whole with its time', async () => {
  let nowMs = 0;
  const shelf = new ResultShelf(() => nowMs);
  shelf.end('acme', 'x', stored('first'));
  const { bytes } = shelf;
  shelf.end('acme', 'x', stored('other'));
  expect(shelf.bytes).toBe(bytes);
  expect(await shelf.find('acme', 'x')).toMatchObject({ files: [{ path: 'other' }] });
  nowMs = RECORD_TTL_MS;
  expect(shelf.find('acme', 'x')).toBeUndefined();
  expect(shelf.bytes).toBe(0);
});
