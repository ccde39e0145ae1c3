import { describe, expect, test } from 'vitest';
import { createScreenFilter } from '../../cli/screen-filter.ts';
import { startHeldBytes } from '../fakes/held-bytes.ts';

const bytes = (text: string) => Buffer.from(text, 'latin1');
const shown = (text: string) => Buffer.from(createScreenFilter().push(bytes(text))).toString('latin1');
/** As UTF-8. */
const utf8 = (text: string) => Buffer.from(createScreenFilter().push(Buffer.from(text))).toString();

const DRAWS: [what: string, text: string][] = [
  ['text and lines', 'a\r\n\tb\bc\x07'],
  ['colour', '\x1b[1;38;5;196mred\x1b[0m \x1b[38:2::1:2:3m'],
  ['the cursor', '\x1b[10;20H\x1b[A\x1b[2K\x1b[J\x1b7\x1b8\x1b[s\x1b[u\x1bM'],
  ['modes: the origin, lines that are cut, a cursor that blinks', '\x1b[?6h\x1b[?7l\x1b[?12h\x1b[?12l'],
  ['modes: other screen, mouse, paste', '\x1b[?1049h\x1b[?1000;1006h\x1b[?2004h\x1b[?25l\x1b[4h'],
  ['its shape', '\x1b[4 q'],
  ['scrolling', '\x1b[5;20r\x1b[3S\x1b[2T\x1b[L\x1b[M'],
  ['where it is, and what the terminal is', '\x1b[6n\x1b[5n\x1b[c\x1b[>c\x1b[>0c'],
  ['character sets, keypad, reset', '\x1b(0\x1b)B\x0e\x0f\x1b=\x1b>\x1bc\x1b#8'],
  ['what keys send, as vim asks for', '\x1b[>4;2m'],
  ['a title', '\x1b]0;vim file\x07'],
];
const REACHES_BEYOND: [what: string, text: string][] = [
  ['the clipboard', '\x1b]52;c;cm0gLXJmIH4=\x07'],
  ['the clipboard, ended by ST', '\x1b]52;c;?\x1b\\'],
  ['a link', '\x1b]8;;file:///etc/passwd\x07'],
  ['iTerm’s files', '\x1b]1337;File=name=eA==;inline=0:AAAA\x07'],
  ['notifications', '\x1b]9;hi\x07\x1b]777;notify;a;b\x07'],
  ['colours, asked and set', '\x1b]10;?\x07\x1b]4;1;?\x07\x1b]11;#000\x07'],
  ['the title, told back as if typed', '\x1b[21t'],
  ['window operations', '\x1b[8;1;1t\x1b[2t\x1b[14t'],
  ['the printer', '\x1b[5i\x1b[?5i'],
  ['settings, told back', '\x1bP$qm\x1b\\\x1b[?2004$p\x1b[1x'],
  ['capabilities, told back', '\x1bP+q544e\x1b\\'],
  ['the screen’s contents as a checksum', '\x1b[1;1;1;1;1;1*y'],
  ['the terminal’s version', '\x1b[>0q'],
  ['another keyboard', '\x1b[>1u\x1b[?u\x1b[=1u\x1b[?9001h\x1b[>1;3m\x1b[?1034h\x1b[?67h'],
  ['what the user does elsewhere: the window’s size, its colours', '\x1b[?2031h\x1b[?2048h\x1b[?996n'],
  ['the window’s width', '\x1b[?40h\x1b[?3h'],
  ['a terminal that understands none of this, as VT52', '\x1b[?2l'],
  ['how characters and keys are spelled', '\x1b%@\x1b%G\x1b G'],
  ['the keyboard, the locator and a checksum, told back', '\x1b[?26n\x1b[?55n\x1b[?63;1n\x1b[8n'],
  ['the answerback', '\x05'],
  ['pictures', '\x1bPq#0;2;0;0;0#0~~\x1b\\\x1b_Ga=T;AAAA\x1b\\'],
  ['privacy messages and strings', '\x1b^x\x1b\\\x1bXx\x1b\\'],
  ['what the terminal is, in VT52', '\x1bZ'],
  ['keys that type commands', '\x1bP0;1|17/6c730d\x1b\\'],
];

describe('what a sandbox writes on a real terminal', () => {
  test.each(DRAWS)('draws: %s', (_what, text) => {
    expect(shown(text)).toBe(text);
  });

  test.each(REACHES_BEYOND)('does not reach beyond the screen: %s', (_what, text) => {
    expect(shown(`a${text}b`)).toBe('ab');
  });

  test('reaches nothing beyond the screen, all of it together', () => {
    expect(shown(REACHES_BEYOND.map(([, text]) => text).join(''))).toBe('');
  });

  test('has the modes that may be, without those beside them that may not', () => {
    expect(shown('\x1b[?9001;1000;2048;25l')).toBe('\x1b[?1000;25l');
    expect(shown('a\x1b[?h\x1b[?;hb')).toBe('ab');
  });

  test('is the same however it is cut into pieces', () => {
    for (const [, text] of [...DRAWS, ...REACHES_BEYOND]) {
      const whole = shown(`<${text}>`);
      const filter = createScreenFilter();
      const pieces = [...bytes(`<${text}>`)].map((byte) => Buffer.from(filter.push(Uint8Array.of(byte))));
      expect(Buffer.concat(pieces).toString('latin1')).toBe(whole);
    }
  });

  test('has its characters whole, and no control characters among those beyond ASCII', () => {
    expect(utf8('żółć → 漢字 🙂 é')).toBe('żółć → 漢字 🙂 é');
    // U+009B and U+009D begin sequences on some terminals, as does the byte alone.
    expect(utf8('a\u009b21tb')).toBe('a21tb');
    expect(utf8('a\u009d52;c;x\u009cb')).toBe('a52;c;xb');
    expect(shown('a\x9b21tb')).toBe('a21tb');
    // Too long a form of ESC, and what begins no character.
    expect(shown('a\xc0\x9b[31mb\xc1\xbf\xf5\xff')).toBe('a[31mb');
  });

  test('has no sequence that is longer than any terminal’s, and none inside a title', () => {
    expect(shown(`\x1b[${'1;'.repeat(127)}1m`)).toBe(`\x1b[${'1;'.repeat(127)}1m`);
    expect(shown(`\x1b[${'1;'.repeat(128)}1mx`)).toBe('x');
    expect(shown(`\x1b]0;${'t'.repeat(510)}\x07`)).toBe(`\x1b]0;${'t'.repeat(510)}\x07`);
    expect(shown(`\x1b]0;${'t'.repeat(511)}\x07x`)).toBe('x');
    expect(shown('\x1b]0;a\x1b[31mb\x07c')).toBe('\x1b]0;a\x07\x1b[31mb\x07c');
    expect(shown('\x1b]0;a\nb\x07')).toBe('\x1b]0;ab\x07');
    expect(utf8('\x1b]0;a\u009b31m\u009c\x7f\u202eb\x07')).toBe('\x1b]0;a31mb\x07');
    expect(shown('\x1b[3\x181m')).toBe('1m');
  });

  test.each([
    ['a sequence', '\x1b['],
    ['a title', '\x1b]0;'],
    ['a string', '\x1bP'],
  ])('is held no longer than a terminal would: %s without an end', (_what, begin) => {
    const filter = createScreenFilter();
    const heldBytes = startHeldBytes('heapUsed');
    filter.push(bytes(begin));
    for (let pieces = 0; pieces < 128; pieces += 1) filter.push(Buffer.alloc(16_384, '1'));
    expect(heldBytes()).toBeLessThan(2_000_000);
    expect(Buffer.from(filter.push(bytes('m\x07\x1b\\x'))).toString()).toMatch(/x$/);
  });

  test('is undone where its program did not', () => {
    const filter = createScreenFilter();
    expect(filter.undo()).toBe('');
    filter.push(bytes('\x1b[?1049h\x1b[?1000;1006h\x1b[?25l\x1b[?7l\x1b[?2004h\x1b[?2004l\x1b=\x1b[>4;2m'));
    const undone = filter.undo();
    for (const each of [
      '\x1b[?1049l',
      '\x1b[?1000l',
      '\x1b[?1006l',
      '\x1b[?25h',
      '\x1b[?7h',
      '\x1b>',
      '\x1b[>4m',
      '\x1b[0m',
    ])
      expect(undone).toContain(each);
    expect(undone).not.toContain('2004');
  });

  test.each([
    ['margins and insertion', '\x1b[5;20r\x1b[4h'],
    ['a keyboard that was locked', '\x1b[2h'],
    ['keys that the terminal echoes itself', '\x1b[12l'],
    ['characters that draw lines', '\x1b(0'],
    ['characters that were shifted', '\x0e'],
  ])('is undone also in what has no mode of its own: %s', (_what, text) => {
    const filter = createScreenFilter();
    filter.push(bytes(text));
    for (const each of ['\x1b[!p', '\x1b[2;4;20l', '\x1b[12h', '\x1b[0m', '\x1b(B', '\x0f'])
      expect(filter.undo()).toContain(each);
  });

  test('is remembered in no more than can be undone, however many modes there are', () => {
    const filter = createScreenFilter();
    const heldBytes = startHeldBytes('heapUsed');
    for (let mode = 100_000; mode < 300_000; mode += 30)
      filter.push(bytes(`\x1b[?${Array.from({ length: 30 }, (_, index) => mode + index).join(';')}h`));
    expect(heldBytes()).toBeLessThan(2_000_000);
    expect(filter.undo()).not.toContain('?');
  });

  test('is all let through where the user asked for that, and undone all the same', () => {
    const filter = createScreenFilter(true);
    const text = '\x1b]52;c;x\x07\x1b[?1049h';
    expect(Buffer.from(filter.push(bytes(text))).toString('latin1')).toBe(text);
    expect(filter.undo()).toContain('\x1b[?1049l');
  });
});
