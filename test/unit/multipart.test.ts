import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  MAX_PART_HEADER_BYTES,
  MAX_PARTS,
  MultipartParser,
  readBoundary,
} from '../../gateway/files/multipart.ts';

type Part = { headers: Record<string, string>; content: string };

const encoder = new TextEncoder();
/** One character a byte, so that bytes of any value compare as text. */
const latin1 = (bytes: Uint8Array) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
const bytesOf = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0));

function parse(boundary: string, chunks: Iterable<Uint8Array<ArrayBuffer>>): Part[] {
  const parser = new MultipartParser(boundary);
  const parts: Part[] = [];
  const open: string[] = [];
  for (const chunk of chunks) {
    for (const event of parser.push(chunk)) {
      if (event.type === 'part') parts.push({ headers: Object.fromEntries(event.headers), content: '' });
      else if (event.type === 'data') open.push(latin1(event.bytes));
      else (parts.at(-1) as Part).content = open.splice(0).join('');
    }
  }
  parser.end();
  return parts;
}

function cutAt(bytes: Uint8Array<ArrayBuffer>, cuts: readonly number[]): Uint8Array<ArrayBuffer>[] {
  const places = [
    0,
    ...[...cuts].map((cut) => cut % (bytes.byteLength + 1)).sort((a, b) => a - b),
    bytes.byteLength,
  ];
  return places.slice(1).map((end, index) => bytes.slice(places[index], end));
}

const whole = (text: string) => parse('b', [bytesOf(text)]);
const eachByte = (text: string) =>
  parse(
    'b',
    Array.from(bytesOf(text), (byte) => Uint8Array.of(byte)),
  );

describe('a multipart parser', () => {
  test.for([
    ['one part', '--b\r\nA: 1\r\n\r\nhello\r\n--b--\r\n', [{ headers: { a: '1' }, content: 'hello' }]],
    ['an empty part', '--b\r\nA: 1\r\n\r\n\r\n--b--', [{ headers: { a: '1' }, content: '' }]],
    ['no headers', '--b\r\n\r\nhello\r\n--b--', [{ headers: {}, content: 'hello' }]],
    ['no parts', '--b--\r\n', []],
    [
      'preamble and epilogue',
      'pre\r\n--bx\r\n--b\r\n\r\n1\r\n--b--\r\n--b\r\n\r\n2',
      [{ headers: {}, content: '1' }],
    ],
    [
      'padding after the boundary',
      '--b \t\r\n\r\n1\r\n--b  \r\n\r\n2\r\n--b--',
      [
        { headers: {}, content: '1' },
        { headers: {}, content: '2' },
      ],
    ],
    [
      'a longer line that begins like the boundary',
      '--b\r\n\r\n1\r\n--bb\r\n--b-\r\n--b--',
      [{ headers: {}, content: '1\r\n--bb\r\n--b-' }],
    ],
    [
      'line breaks before the boundary',
      '--b\r\n\r\n\r\n\r\r\n\r\n--b--',
      [{ headers: {}, content: '\r\n\r\r\n' }],
    ],
    [
      'the boundary within a line',
      '--b\r\n\r\nx--b--\n--b--\r\n--b--',
      [{ headers: {}, content: 'x--b--\n--b--' }],
    ],
  ] as const)('reads %s, in one chunk and byte by byte', ([, text, parts]) => {
    expect(whole(text)).toEqual(parts);
    expect(eachByte(text)).toEqual(parts);
  });

  test('gives parts back as they are, wherever chunks break', () => {
    // Contents made of the boundary's own pieces are where parsers go wrong.
    const piece = fc.oneof(
      fc.constantFrom(
        '\r',
        '\n',
        '-',
        '--',
        '\r\n',
        '\r\n-',
        '\r\n--',
        '\r\n--b',
        '\r\n--bo',
        'bo',
        ' ',
        '\0',
      ),
      fc.string({ unit: 'binary-ascii', maxLength: 20 }),
    );
    const content = fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join(''));
    const boundary = 'bob';
    const isData = (text: string) =>
      !/\r\n--bob(--|[ \t]*\r\n)/.test(`\r\n${text}\r\n`) && !/\r\n--bob[ \t-]?$/.test(text);
    const bodies = fc.array(content.filter(isData), { maxLength: 5 });
    fc.assert(
      fc.property(bodies, fc.array(fc.nat()), (contents, cuts) => {
        const text = `${contents.map((each, index) => `--bob\r\nX-Index: ${index}\r\n\r\n${each}\r\n`).join('')}--bob--`;
        const parts = parse(boundary, cutAt(bytesOf(text), cuts));
        expect(parts).toEqual(
          contents.map((each, index) => ({ headers: { 'x-index': String(index) }, content: each })),
        );
      }),
      { numRuns: 500 },
    );
  });

  test("reads what the platform's own FormData writes", async () => {
    const form = new FormData();
    const content = crypto.getRandomValues(new Uint8Array(50_000));
    form.append('note', 'héllo');
    form.append('file', new Blob([content]), 'naïve "x".bin');
    const response = new Response(form);
    const boundary = readBoundary(response.headers.get('content-type'));
    const body = new Uint8Array(await response.arrayBuffer());
    for (const size of [1, 2, 3, 63, 64, 65, 50_000, 1_000_000]) {
      const chunks = Array.from({ length: Math.ceil(body.byteLength / size) }, (_, at) =>
        body.slice(at * size, (at + 1) * size),
      );
      const parts = parse(boundary, chunks);
      expect(parts.map((part) => part.content)).toEqual([latin1(encoder.encode('héllo')), latin1(content)]);
      expect(parts[1]?.headers['content-disposition']).toContain('naïve');
    }
  });

  test('never yields bytes that it may have to take back, and never holds more than a boundary of them', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 2_000 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        (content, cuts) => {
          const parser = new MultipartParser('bob');
          let seen = 0;
          let pushed = 0;
          for (const event of parser.push(bytesOf('--bob\r\n\r\n'))) expect(event.type).toBe('part');
          for (const chunk of cutAt(Uint8Array.from(content), cuts)) {
            pushed += chunk.byteLength;
            for (const event of parser.push(chunk))
              seen += event.type === 'data' ? event.bytes.byteLength : 0;
            expect(pushed - seen).toBeLessThan('\r\n--bob'.length + 1);
          }
        },
      ),
    );
  });

  test('survives anything that is not multipart', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), fc.array(fc.nat()), (junk, cuts) => {
        try {
          parse('b', cutAt(Uint8Array.from(junk), cuts));
        } catch (failure) {
          expect(failure).toMatchObject({ code: 'invalid_request' });
        }
      }),
    );
  });

  test.for([
    '',
    '--b',
    '--b\r\n\r\nhello',
    '--b\r\n\r\nhello\r\n--b',
    '--b\r\n\r\nhello\r\n--b-',
    '--b\r\nA: 1',
  ])('refuses the body that ends in %j', (text) => {
    expect(() => whole(text)).toThrow('ends before its closing boundary');
  });

  test('takes no longer for headers that come byte by byte, whatever they are made of', () => {
    const fastest = (byte: string) => {
      const chunks = cutAt(bytesOf(byte.repeat(MAX_PART_HEADER_BYTES)), [
        ...Array(MAX_PART_HEADER_BYTES).keys(),
      ]);
      const times = Array.from({ length: 3 }, () => {
        const parser = new MultipartParser('b');
        for (const _ of parser.push(bytesOf('--b\r\n'))) expect.unreachable();
        const before = performance.now();
        for (const chunk of chunks) for (const _ of parser.push(chunk)) expect.unreachable();
        return performance.now() - before;
      });
      return Math.min(...times);
    };
    // Each byte was compared again with each that came: sixty times as long.
    expect(fastest('\r') / fastest('a')).toBeLessThan(12);
  });

  test('takes exactly its limits of headers and of parts', () => {
    const headers = (size: number) => `--b\r\nA:${'x'.repeat(size - 4)}\r\n\r\n\r\n--b--`;
    expect(whole(headers(MAX_PART_HEADER_BYTES))).toHaveLength(1);
    expect(() => whole(headers(MAX_PART_HEADER_BYTES + 1))).toThrow('headers of a field exceed');
    expect(eachByte(headers(MAX_PART_HEADER_BYTES))).toHaveLength(1);
    expect(() => eachByte(headers(MAX_PART_HEADER_BYTES + 1))).toThrow('headers of a field exceed');
    const parts = (count: number) => `${'--b\r\n\r\n\r\n'.repeat(count)}--b--`;
    expect(whole(parts(MAX_PARTS))).toHaveLength(MAX_PARTS);
    expect(() => whole(parts(MAX_PARTS + 1))).toThrow('at most 100 fields');
  });

  test('reads names that are not UTF-8 in the charset they most likely are in', () => {
    expect(whole('--b\r\nA: na\xefve\r\n\r\n\r\n--b--')).toEqual([{ headers: { a: 'naïve' }, content: '' }]);
  });
});

describe('the boundary', () => {
  test.for([
    ['multipart/form-data; boundary=abc', 'abc'],
    ['Multipart/Form-Data;charset=utf-8; Boundary="a b"', 'a b'],
    ['multipart/form-data; boundary=----WebKitFormBoundaryX; x=y', '----WebKitFormBoundaryX'],
    [`multipart/form-data; boundary=${'x'.repeat(70)}`, 'x'.repeat(70)],
  ] as const)('of %s is %j', ([contentType, boundary]) => {
    expect(readBoundary(contentType)).toBe(boundary);
  });

  test.for([
    null,
    '',
    'application/json',
    'multipart/mixed; boundary=a',
    'multipart/form-data',
    'multipart/form-data; boundary=',
    'multipart/form-data; boundary="a "',
    'multipart/form-data; boundary="a\tb"',
    'multipart/form-data; boundary=é',
    `multipart/form-data; boundary=${'x'.repeat(71)}`,
  ])('of %j is refused', (contentType) => {
    expect(() => readBoundary(contentType)).toThrow('invalid_request');
  });
});
