import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { attachmentDisposition, parseFieldDisposition } from '../../gateway/files/disposition.ts';
import { fileName } from '../../gateway/files/file-name.ts';

const bytesOf = (text: string) => new TextEncoder().encode(text).byteLength;

describe('the name of a stored file', () => {
  test.for([
    ['a.txt', 'a.txt'],
    ['.env', '.env'],
    ['...', '...'],
    ['..', 'file'],
    ['.', 'file'],
    ['', 'file'],
    ['  ', 'file'],
    ['dir/', 'file'],
    ['../../etc/passwd', 'passwd'],
    ['C:\\Users\\anna\\plan.xlsx', 'plan.xlsx'],
    ['/tmp/\\x', 'x'],
    ['a\nb\r\0\x7f\x85.txt', 'ab.txt'],
    ['日本語 😀.csv', '日本語 😀.csv'],
    ['it\'s "quoted".txt', 'it\'s "quoted".txt'],
    ['\ud800.txt', '\ufffd.txt'],
    ['x'.repeat(255), 'x'.repeat(255)],
    [`${'x'.repeat(256)}.tar`, `${'x'.repeat(251)}.tar`],
    [`.${'x'.repeat(300)}`, `.${'x'.repeat(254)}`],
    [`a.${'x'.repeat(300)}`, `a.${'x'.repeat(253)}`],
    [`${'😀'.repeat(64)}`, '😀'.repeat(63)],
  ] as const)('given %j is %j', ([given, name]) => {
    expect(fileName(given)).toBe(name);
  });

  test('is always a legal base name of at most 255 bytes, and stays itself when given again', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (given) => {
        const name = fileName(given);
        expect(bytesOf(name)).toBeGreaterThan(0);
        expect(bytesOf(name)).toBeLessThanOrEqual(255);
        expect(name).not.toMatch(/[/\\\p{Cc}]/u);
        expect(['.', '..']).not.toContain(name);
        expect(fileName(name)).toBe(name);
      }),
    );
  });
});

describe('Content-Disposition of a download', () => {
  test.for([
    ['a.txt', 'attachment; filename="a.txt"'],
    ['a "b"\\c', `attachment; filename="a \\"b\\"\\\\c"; filename*=UTF-8''a%20%22b%22%5Cc`],
    ['naïve.txt', `attachment; filename="na_ve.txt"; filename*=UTF-8''na%C3%AFve.txt`],
    ['😀', `attachment; filename="_"; filename*=UTF-8''%F0%9F%98%80`],
    ['100%.txt', `attachment; filename="100%.txt"; filename*=UTF-8''100%25.txt`],
    ["é'(1)*.txt", `attachment; filename="_'(1)*.txt"; filename*=UTF-8''%C3%A9%27%281%29%2A.txt`],
    ['a\nb', `attachment; filename="a_b"; filename*=UTF-8''a%0Ab`],
  ] as const)('of %j is %s', ([name, header]) => {
    expect(attachmentDisposition(name)).toBe(header);
  });

  test('is a header that HTTP carries, whatever the name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 255 }), (name) => {
        const header = attachmentDisposition(name);
        expect(header).toMatch(/^[\x20-\x7e]+$/);
        expect(new Headers({ 'Content-Disposition': header }).get('content-disposition')).toBe(header);
      }),
    );
  });
});

describe("Content-Disposition of a form's field", () => {
  test.for([
    ['form-data; name="file"; filename="a.txt"', 'file', 'a.txt'],
    ['FORM-DATA;name=file;filename=a.txt', 'file', 'a.txt'],
    ['form-data; filename="a; name=\\"x\\".txt"; name="file"', 'file', 'a; name="x".txt'],
    ['form-data; name="file"; filename="C:\\dir\\new.txt"', 'file', 'C:\\dir\\new.txt'],
    ['form-data; name="file"; filename="a%22b.txt"', 'file', 'a"b.txt'],
    ['form-data; name="file"; filename="日本.txt"', 'file', '日本.txt'],
    [`form-data; name="file"; filename*=UTF-8''%E6%97%A5.txt`, 'file', '日.txt'],
    [`form-data; name="file"; filename="x"; filename*=utf-8'en'%C3%A9`, 'file', 'é'],
    [`form-data; name="file"; filename="x"; filename*=UTF-8''%zz`, 'file', 'x'],
    [`form-data; name="file"; filename="x"; filename*=latin1''%E9`, 'file', 'x'],
    ['form-data; name="file"', 'file', null],
    ['form-data; name="file"; name="other"', 'file', null],
    ['form-data; name="file', null, null],
    ['attachment; name="file"', null, null],
    ['', null, null],
  ] as const)('%s names %j and %j', ([header, name, filename]) => {
    expect(parseFieldDisposition(header)).toEqual({ name, filename });
  });

  test.for([
    `form-data; name="${'\\'.repeat(16_000)}`,
    `form-data; name=${' '.repeat(16_000)}"`,
    `form-data; name="a"${' '.repeat(16_000)}x`,
    `form-data${' '.repeat(16_000)}x`,
    `form-data${'; a'.repeat(5_000)}`,
  ])('takes no time over a hostile one (%#)', (header) => {
    const before = performance.now();
    parseFieldDisposition(header);
    expect(performance.now() - before).toBeLessThan(100);
  });
});
