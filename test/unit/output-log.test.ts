import { describe, expect, test } from 'vitest';
import { OutputLog } from '../../agent/executions/output-log.ts';
import { type Retained, Retention } from '../../agent/executions/retention.ts';

const NOTHING = { 1: 0, 2: 0, 3: 0 };

function printed(log: OutputLog, from = NOTHING, files = 0): string[] {
  return [...log.items(from, files)].map((item) =>
    'file' in item ? `END ${item.file.path}` : `${item.channel} ${Buffer.from(item.bytes).toString()}`,
  );
}

function say(log: OutputLog, ...words: [channel: 1 | 2 | 3, text: string][]): void {
  for (const [channel, text] of words) log.push(channel, Buffer.from(text));
}

describe('a log of output', () => {
  test('tells it in the order in which it came, from any byte on', () => {
    const log = new OutputLog(new Retention());
    say(log, [1, 'one '], [1, 'two '], [2, 'err '], [1, 'three'], [3, 'file']);
    log.end({ path: 'f', size: 4, sha256: '' });
    log.end({ path: 'empty', size: 0, sha256: '' });
    say(log, [3, 'more'], [1, 'late']);
    log.end({ path: 'last', size: 4, sha256: '' });
    expect(printed(log)).toEqual([
      '1 one two ',
      '2 err ',
      '1 three',
      '3 file',
      'END f',
      'END empty',
      '3 more',
      '1 late',
      'END last',
    ]);
    expect(printed(log, { 1: 6, 2: 3, 3: 5 }, 1)).toEqual([
      '1 o ',
      '2  ',
      '1 three',
      'END empty',
      '3 ore',
      '1 late',
      'END last',
    ]);
  });

  test('drops what is over, and never what somebody needs', () => {
    const log = new OutputLog(new Retention());
    for (let block = 0; block < 4; block += 1) log.push(1, new Uint8Array(10_000));
    log.trim({ 1: 10_001, 2: 0, 3: 0 }, 5_000);
    expect(log.floor[1]).toBe(10_000);
    log.trim({ 1: 30_000, 2: 0, 3: 0 }, 15_000);
    expect(log.floor[1]).toBe(30_000);
  });

  test('drops no byte of stderr for room on stdout while somebody needs it', () => {
    const log = new OutputLog(new Retention());
    say(log, [1, 'old'], [2, 'wanted']);
    log.push(1, new Uint8Array(10_000));
    log.push(1, new Uint8Array(10_000));
    log.trim({ 1: 20_003, 2: 5, 3: 0 }, 100);
    expect(log.floor).toMatchObject(NOTHING);
    log.trim({ 1: 20_003, 2: 6, 3: 0 }, 100);
    expect(log.floor).toMatchObject({ 1: 10_003, 2: 6 });
  });

  test.for([1, 2, 3] as const)('keeps what it may of channel %d, and one byte more is over', (channel) => {
    const log = new OutputLog(new Retention());
    for (let block = 0; block < 2; block += 1) log.push(channel, new Uint8Array(10_000));
    expect([log.isOver(20_000), log.isOver(19_999)]).toEqual([false, true]);
    log.trim(log.length, 20_000);
    expect(log.floor[channel]).toBe(0);
    log.trim(log.length, 19_999);
    expect(log.floor[channel]).toBe(10_000);
  });

  test('drops no output for room for files, and no file for room for output', () => {
    const log = new OutputLog(new Retention());
    for (let block = 0; block < 4; block += 1) log.push(block < 2 ? 3 : 1, new Uint8Array(10_000));
    log.trim({ 1: 20_000, 2: 0, 3: 9_999 }, 5_000);
    expect(log.floor).toMatchObject({ 1: 10_000, 3: 0 });
    for (let block = 0; block < 2; block += 1) log.push(1, new Uint8Array(10_000));
    log.trim({ 1: 19_999, 2: 0, 3: 10_000 }, 5_000);
    expect(log.floor).toMatchObject({ 1: 10_000, 3: 10_000 });
  });

  test('costs what it holds and no object a byte, and nothing once it is forgotten', () => {
    const retention = new Retention();
    const log = new OutputLog(retention);
    for (let byte = 0; byte < 100_000; byte += 1) log.push(byte % 2 === 0 ? 1 : 2, new Uint8Array(1));
    expect(log.cost).toBeGreaterThan(100_000);
    expect(log.cost).toBeLessThan(10 * 100_000);
    log.trim(log.length, 1_000_000);
    // 65,536 runs are what may be kept beside the bytes.
    expect(log.length[1] + log.length[2] - log.floor[1] - log.floor[2]).toBeLessThanOrEqual(65_536);
    expect(retention.bytes).toBe(log.cost);
    log.clear();
    expect([retention.bytes, log.floor]).toEqual([0, log.length]);
    log.end({ path: 'name', size: 0, sha256: '' });
    log.clear();
    expect(retention.bytes).toBeGreaterThan('name'.length);
    log.forget();
    expect(retention.bytes).toBe(0);
  });

  test('keeps nothing alive of the buffer that a small piece came in', () => {
    const log = new OutputLog(new Retention());
    const arrived = new Uint8Array(65_536);
    log.push(1, arrived.subarray(0, 10));
    arrived.fill(9);
    const [item] = log.items(NOTHING, 0);
    expect(item).toMatchObject({ bytes: new Uint8Array(10) });
    expect((item as { bytes: Uint8Array }).bytes.buffer.byteLength).toBe(10);
  });
});

describe('what may be kept over all executions', () => {
  function kept(retention: Retention, inUse = false) {
    const log = new OutputLog(retention);
    const retained = { inUse, drop: () => void log.forget() };
    log.push(1, new Uint8Array(1_000));
    retention.ended(retained);
    return log;
  }

  test('goes from the oldest that has ended and that nobody reads', () => {
    const retention = new Retention(3_500);
    const read = kept(retention, true);
    const oldest = kept(retention);
    const newer = kept(retention);
    expect([read, oldest, newer].map(({ cost }) => cost > 0)).toEqual([true, true, true]);
    const newest = kept(retention);
    expect([read, oldest, newer, newest].map(({ cost }) => cost > 0)).toEqual([true, false, true, true]);
    expect(retention.isFull).toBe(false);
  });

  test('is as much as it says, and nothing of what nobody can ask for any more', () => {
    const retention = new Retention(1_000);
    const dropped: string[] = [];
    const [gone, here] = ['gone', 'here'].map((name) => ({
      inUse: false,
      drop: () => void dropped.push(name),
    })) as [Retained, Retained];
    retention.ended(gone);
    retention.ended(here);
    retention.gone(gone);
    retention.charge(1_000);
    expect([retention.isFull, dropped]).toEqual([false, []]);
    retention.charge(1);
    expect([retention.isFull, dropped]).toEqual([true, ['here']]);
  });
});
