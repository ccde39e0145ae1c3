import { expect, test } from 'vitest';
import { readStagedFile } from '../../cli/staged-file.ts';

test.for([
  ['in.txt', 'in.txt', 'in.txt'],
  ['dir/in.txt', 'dir/in.txt', 'in.txt'],
  ['in.txt=as/other', 'in.txt', 'as/other'],
  ['in.txt=k=v', 'in.txt', 'k=v'],
  ['"a=b.csv"', 'a=b.csv', 'a=b.csv'],
  ['"dir=1/a=b"=as/k=v', 'dir=1/a=b', 'as/k=v'],
  ['"a=b"=', 'a=b', ''],
  [String.raw`"a\"=\\b"`, 'a"=\\b', 'a"=\\b'],
  [String.raw`"C:\dir\a=b"=c`, String.raw`C:\dir\a=b`, 'c'],
  ['"half', '"half', '"half'],
  ['say "a"', 'say "a"', 'say "a"'],
] as const)('%s is the file %s, staged as %s', ([text, file, path]) => {
  expect(readStagedFile(text)).toEqual({ file, path });
});
