import { UNPRINTABLE } from '../shared/printable.ts';

/** Longer sequences are no terminal's; the title of a window is cut. */
const MAX_SEQUENCE_BYTES = 256;
const MAX_TITLE_BYTES = 512;

const ESC = 0x1b;
const [BEL, ENQ, CAN, SUB, DEL] = [0x07, 0x05, 0x18, 0x1a, 0x7f];
/** What moves the cursor or rings, and no more. */
const CONTROLS = new Set([BEL, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f]);
/** After ESC: cursor, keypad, tabs, character sets, full reset. */
const ESCAPES = new Set([...'78=>DEHMc'].map((char) => char.charCodeAt(0)));
const CHARACTER_SETS = new Set([...'()*+-./#'].map((char) => char.charCodeAt(0)));
/** With one more behind them they change how the terminal spells characters and keys: it is left as the user has it. */
const SPELLINGS = new Set([...'% '].map((char) => char.charCodeAt(0)));
/** Sequences whose text is for the terminal: DCS, SOS, PM, APC. OSC has one use that is let through. */
const STRINGS = new Set([...'PX^_'].map((char) => char.charCodeAt(0)));
/**
 * Control sequences by prefix, intermediates and final: drawing, modes, cursor shape, where the cursor is and what the
 * terminal is. No other question to the terminal: its answers are typed for the user. No window, printer, or clipboard.
 */
const SEQUENCE =
  /^(?:[0-9;:]*[@A-HJ-MPSTXZ`a-hlmr-su]|[56]n|\?6n|\?[0-9;]*[JK]|>[0-9;]*c|>(?:4(?:;\d)?)?m|![p]|[0-9;]* q|[0-9;]*["]q|[0-9;]*[$][rvxz{}]|[0-9;]*I)$/;
const MODES = /^\?([0-9;]*)([hl])$/;
/** Of what is no mode of its own, or is set by being unset. */
const [HIDDEN_CURSOR, CUT_LINES, OTHER_KEYS] = [-1, -2, -3];
const KEYPAD = 66;
/** What is left behind where they are unset. */
const UNSET = new Map([
  [25, HIDDEN_CURSOR],
  [7, CUT_LINES],
]);
/** Modes with nothing to be undone, or that a soft reset undoes: the origin, a cursor that blinks or is saved. */
const PASSING = new Set([6, 12, 1048]);
/**
 * Modes that outlive a program that does not undo them, and what undoes them. No other is let through: one can make a
 * terminal send keys as reports, tell of what the user does elsewhere, or understand no sequence that would undo it.
 */
const UNDOABLE = new Map([
  [HIDDEN_CURSOR, '\x1b[?25h'],
  [CUT_LINES, '\x1b[?7h'],
  [OTHER_KEYS, '\x1b[>4m'],
  [1, '\x1b[?1l'],
  [5, '\x1b[?5l'],
  [9, '\x1b[?9l'],
  [47, '\x1b[?47l'],
  [KEYPAD, '\x1b>'],
  [69, '\x1b[?69l'],
  [1000, '\x1b[?1000l'],
  [1002, '\x1b[?1002l'],
  [1003, '\x1b[?1003l'],
  [1004, '\x1b[?1004l'],
  [1005, '\x1b[?1005l'],
  [1006, '\x1b[?1006l'],
  [1015, '\x1b[?1015l'],
  [1016, '\x1b[?1016l'],
  [1047, '\x1b[?1047l'],
  [1049, '\x1b[?1049l'],
  [2004, '\x1b[?2004l'],
  [2026, '\x1b[?2026l'],
]);

/** Undoes what has no mode of its own: colours, character sets, margins, insertion, a keyboard that was locked or echoes. */
const SOFT_RESET = '\x1b[!p\x1b[2;4;20l\x1b[12h\x1b[0m\x1b(B\x0f';
const SHIFT_OUT = 0x0e;

type State = 'ground' | 'escape' | 'charset' | 'sequence' | 'title' | 'string';

export type ScreenFilter = {
  /** What of it may reach the user's terminal. Sequences that are cut in two wait for their rest. */
  push(bytes: Uint8Array): Uint8Array;
  /** Undoes what a program left behind on the terminal. */
  undo(): string;
};

/** The output of a sandbox on its way to a real terminal. `all`: nothing is held back, as ssh does. */
export function createScreenFilter(all = false): ScreenFilter {
  const modes = new Set<number>();
  let touched = false;
  let state: State = 'ground';
  let held: number[] = [];
  /** Bytes of a UTF-8 character that are still to come, and what it began with. */
  let following = 0;
  let isC1 = false;
  let output: number[] = [];

  const pass = (...bytes: number[]) => {
    for (const byte of bytes) output.push(byte);
  };
  const enter = (next: State, ...first: number[]) => {
    state = next;
    held = first;
  };

  function ground(byte: number): void {
    if (byte >= 0x80 && byte < 0xc0) continued(byte);
    else {
      following = 0;
      if (byte === SHIFT_OUT) touched = true;
      if (byte === ESC) enter('escape', byte);
      else if (byte >= 0xc2 && byte < 0xf5) {
        following = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        // U+0080 to U+009F are control characters, some terminals' own sequences among them.
        isC1 = byte === 0xc2;
        if (!isC1) pass(byte);
      } else if (byte < 0x20 ? CONTROLS.has(byte) : byte < DEL) pass(byte);
    }
  }

  function continued(byte: number): void {
    if (following === 0) return;
    following -= 1;
    if (!isC1) pass(byte);
    else if (byte >= 0xa0) pass(0xc2, byte);
    isC1 = false;
  }

  function escaped(byte: number): void {
    if (byte === 0x5b) enter('sequence');
    else if (byte === 0x5d) enter('title');
    else if (STRINGS.has(byte)) enter('string');
    else if (CHARACTER_SETS.has(byte) || SPELLINGS.has(byte)) enter('charset', ESC, byte);
    else {
      state = 'ground';
      if (ESCAPES.has(byte)) pass(ESC, byte);
      else if (byte < 0x20 || byte === ESC) take(byte);
      if (byte === 0x63) modes.clear();
      if (byte === 0x3d) track(KEYPAD, true);
      if (byte === 0x3e) track(KEYPAD, false);
    }
  }

  function charset(byte: number): void {
    state = 'ground';
    if (byte < 0x20 || byte >= DEL) take(byte);
    else if (!SPELLINGS.has(held.at(-1) as number)) {
      touched = true;
      pass(...held, byte);
    }
  }

  function sequence(byte: number): void {
    if (byte >= 0x40 && byte < DEL) {
      state = 'ground';
      const text = permitted(String.fromCharCode(...held, byte));
      if (held.length >= MAX_SEQUENCE_BYTES || text === '') return;
      remember(text);
      pass(ESC, 0x5b, ...[...text].map((char) => char.charCodeAt(0)));
    } else if (byte === ESC) enter('escape', byte);
    else if (byte === CAN || byte === SUB) state = 'ground';
    else if (byte >= 0x20 && byte < DEL && held.length < MAX_SEQUENCE_BYTES) held.push(byte);
  }

  function remember(text: string): void {
    touched = true;
    const [, listed, verb] = MODES.exec(text) ?? [];
    const isSet = verb === 'h';
    for (const mode of listed?.split(';').map(Number) ?? []) {
      const left = UNSET.get(mode);
      if (left !== undefined) track(left, !isSet);
      else track(mode, isSet);
    }
    if (/^>4(;\d+)?m$/.test(text)) track(OTHER_KEYS, true);
  }

  function track(mode: number, isOn: boolean): void {
    if (!isOn) modes.delete(mode);
    else if (UNDOABLE.has(mode)) modes.add(mode);
  }

  /** Until BEL or ST. ESC ends it whatever follows. */
  function text(byte: number): void {
    const isTitle = state === 'title';
    if (byte === BEL || byte === ESC || byte === CAN || byte === SUB) {
      if (isTitle && byte !== CAN && byte !== SUB) title();
      if (byte === ESC) enter('escape', byte);
      else state = 'ground';
    } else if (isTitle && held.length <= MAX_TITLE_BYTES) held.push(byte);
  }

  function title(): void {
    const [kind, semicolon] = held;
    const isKnown = kind !== undefined && kind >= 0x30 && kind <= 0x32 && semicolon === 0x3b;
    if (!isKnown || held.length > MAX_TITLE_BYTES) return;
    const words = new TextDecoder().decode(Uint8Array.from(held.slice(2)));
    const clean = words.replace(UNPRINTABLE, '');
    pass(ESC, 0x5d, kind, 0x3b, ...new TextEncoder().encode(clean), BEL);
  }

  function take(byte: number): void {
    if (byte === ENQ) return;
    if (state === 'ground') ground(byte);
    else if (state === 'escape') escaped(byte);
    else if (state === 'charset') charset(byte);
    else if (state === 'sequence') sequence(byte);
    else text(byte);
  }

  return {
    push(bytes) {
      output = [];
      for (const byte of bytes) take(byte);
      return all ? bytes : Uint8Array.from(output);
    },
    undo() {
      const undone = [...UNDOABLE].filter(([mode]) => modes.has(mode)).map(([, text]) => text);
      return (touched ? SOFT_RESET : '') + undone.join('');
    },
  };
}

/** A control sequence without those of its modes that are not let through; empty where nothing is left of it. */
function permitted(text: string): string {
  const [, listed, verb] = MODES.exec(text) ?? [];
  if (listed === undefined) return SEQUENCE.test(text) ? text : '';
  const kept = listed.split(';').filter((mode) => isLetThrough(Number(mode)));
  return kept.length > 0 ? `?${kept.join(';')}${verb}` : '';
}

function isLetThrough(mode: number): boolean {
  return UNDOABLE.has(mode) || UNSET.has(mode) || PASSING.has(mode);
}
