import { describe, expect, test } from 'vitest';
import { SILENT_MS, type Sign, SignsOfLife } from '../../../agent/backends/docker/signs-of-life.ts';

const look = (...signs: [string, Sign][]) => new Map(signs);

describe('another instance', () => {
  test('whose process is gone is dead at once', () => {
    expect(new SignsOfLife().observe(look(['a', 'dead'], ['b', 'alive']), 0)).toEqual(['a']);
  });

  test('that cannot be seen is dead when it held no stream for the whole time, and not a moment before', () => {
    const life = new SignsOfLife();
    expect(life.observe(look(['a', 'unknown']), 100)).toEqual([]);
    expect(life.observe(look(['a', 'unknown']), 100 + SILENT_MS - 1)).toEqual([]);
    expect(life.observe(look(['a', 'unknown']), 100 + SILENT_MS)).toEqual(['a']);
  });

  test('that held a stream in between has its whole time again', () => {
    const life = new SignsOfLife(10);
    life.observe(look(['a', 'unknown']), 0);
    life.observe(look(['a', 'alive']), 9);
    expect(life.observe(look(['a', 'unknown']), 10)).toEqual([]);
    expect(life.observe(look(['a', 'unknown']), 19)).toEqual([]);
    expect(life.observe(look(['a', 'unknown']), 20)).toEqual(['a']);
  });

  test('has its whole time again after a look that failed, and when it comes back', () => {
    const life = new SignsOfLife(10);
    life.observe(look(['a', 'unknown']), 0);
    life.forget();
    expect(life.observe(look(['a', 'unknown']), 10)).toEqual([]);
    life.observe(look(), 15);
    expect(life.observe(look(['a', 'unknown']), 20)).toEqual([]);
  });
});
