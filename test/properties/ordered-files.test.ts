import fc from 'fast-check';
import { expect, test } from 'vitest';
import { comparePositions, OrderedFiles, type Position } from '../../gateway/files/ordered-files.ts';

const MAX_BLOCK = 4;

const time = fc.integer({ min: 0, max: 20 });
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ add: time, id: fc.uuid() }) },
  { weight: 2, arbitrary: fc.record({ remove: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ removeFirst: fc.integer({ min: 1, max: 10 }) }) },
);

const fileAt = ({ upload_time, file_id }: Position) => ({
  file_id,
  filename: 'a',
  size_bytes: 1,
  upload_time,
});

test('files are in the order of their list, and pages begin anywhere in it, whatever comes and goes', () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 120 }),
      fc.record({ upload_time: time, file_id: fc.uuid() }),
      fc.integer({ min: 1, max: 12 }),
      (steps, after, limit) => {
        const files = new OrderedFiles(MAX_BLOCK);
        let all: Position[] = [];
        const remove = (gone: readonly Position[]) => {
          for (const each of gone) files.remove(fileAt(each));
          all = all.filter((each) => !gone.includes(each));
        };
        for (const each of steps) {
          if ('add' in each) {
            const position = { upload_time: each.add, file_id: each.id };
            all = [...all, position].sort(comparePositions);
            files.add(fileAt(position));
          } else if ('removeFirst' in each) remove(all.slice(0, each.removeFirst));
          else remove(all.slice(each.remove % (all.length || 1)).slice(0, 1));
          const isIn = (meta: Position) => comparePositions(meta, after) > 0;
          expect(files.page(() => true, Infinity)).toEqual(all.map(fileAt));
          expect(files.page(isIn, limit)).toEqual(all.filter(isIn).slice(0, limit).map(fileAt));
          expect(files.isEmpty).toBe(all.length === 0);
          files.remove(fileAt({ upload_time: after.upload_time, file_id: '' }));
        }
      },
    ),
  );
});
