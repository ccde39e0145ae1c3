import { describe, expect, test } from 'vitest';
import { collectSessionPage, readSessionPage } from '../../gateway/sessions/session-page.ts';
import type { SessionResponse } from '../../shared/session-api.ts';

const session = (created_at: number, end: string): SessionResponse => ({
  session_id: `id.${end.padStart(22, '-')}`,
  created_at,
  expires_at: created_at + 900,
  idle_seconds: null,
  cluster: 'lab',
  template: 'default',
  running: 0,
});
const list = (sessions: readonly SessionResponse[], query: Record<string, string>) => {
  const collector = collectSessionPage(readSessionPage(new URLSearchParams(query)));
  for (const each of sessions) collector.add([each]);
  return collector.page();
};

describe('a list of sessions', () => {
  const all = [
    session(1_795_393_366.384, 'b'),
    session(1_795_393_366.384, 'a'),
    session(5, 'c'),
    session(9e9, 'd'),
  ];
  const [second, first, oldest, newest] = all as [
    SessionResponse,
    SessionResponse,
    SessionResponse,
    SessionResponse,
  ];

  test('is in pages, the oldest first, those of one instant too', () => {
    const found: SessionResponse[] = [];
    let cursor: string | null = null;
    do {
      const page = list(all, { limit: '1', ...(cursor !== null && { cursor }) });
      found.push(...page.sessions);
      cursor = page.next_cursor;
    } while (cursor !== null);
    expect(found).toEqual([oldest, first, second, newest]);
  });

  test('passes over nobody where one ends between two pages', () => {
    const page = list(all, { limit: '2' });
    expect(page.sessions).toEqual([oldest, first]);
    const left = all.filter((each) => each !== oldest && each !== first);
    expect(list(left, { limit: '2', cursor: page.next_cursor ?? '' })).toEqual({
      sessions: [second, newest],
      next_cursor: null,
    });
  });

  test.each(['1', 'x', '1_a', `1_${'a'.repeat(23)}`, `1e5_${'a'.repeat(22)}`])(
    'has no cursor %s',
    (cursor) => {
      expect(() => list(all, { cursor })).toThrow('cursor is not one that this list gave');
    },
  );
});
