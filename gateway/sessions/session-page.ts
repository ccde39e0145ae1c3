import type { SessionResponse } from '../../shared/session-api.ts';
import { readPage } from '../http/page.ts';
import { invalid } from '../http/parse-json.ts';

/** Where a session stands in a list. The end of an id is random: it orders those of one instant. */
type Position = readonly [createdAt: number, idEnd: string];

const ID_END_CHARS = 22;
const CURSOR = /^(\d{1,12}(?:\.\d{1,9})?)_([\w-]{22})$/;

export type SessionPage = { limit: number; after: Position | undefined };

/** `limit` and `cursor` of the list of sessions. Throws `invalid_request`. */
export function readSessionPage(query: URLSearchParams): SessionPage {
  const { limit, cursor } = readPage(query);
  return { limit, after: cursor === undefined ? undefined : readCursor(cursor) };
}

/** Takes sessions in any order. What it keeps is bounded by its page, however many come. */
export type SessionPageCollector = {
  add(sessions: readonly SessionResponse[]): void;
  /** The oldest first. The cursor is the last of the page before, so that one that ends meanwhile moves no other. */
  page(): { sessions: SessionResponse[]; next_cursor: string | null };
};

export function collectSessionPage({ limit, after }: SessionPage): SessionPageCollector {
  let kept: SessionResponse[] = [];
  /** One more than is shown says that there are others. */
  const cut = () => {
    kept = kept.sort((a, b) => compare(positionOf(a), positionOf(b))).slice(0, limit + 1);
  };
  return {
    add(sessions) {
      for (const each of sessions)
        if (after === undefined || compare(positionOf(each), after) > 0) kept.push(each);
      if (kept.length > 2 * limit) cut();
    },
    page() {
      cut();
      const sessions = kept.slice(0, limit);
      const last = sessions.at(-1);
      return { sessions, next_cursor: last && kept.length > limit ? positionOf(last).join('_') : null };
    },
  };
}

function positionOf({ created_at, session_id }: SessionResponse): Position {
  return [created_at, session_id.slice(-ID_END_CHARS)];
}

function compare([createdAt, idEnd]: Position, [otherCreatedAt, otherIdEnd]: Position): number {
  if (createdAt !== otherCreatedAt) return createdAt - otherCreatedAt;
  return idEnd === otherIdEnd ? 0 : idEnd < otherIdEnd ? -1 : 1;
}

function readCursor(cursor: string): Position {
  const [, createdAt, idEnd] = CURSOR.exec(cursor) ?? [];
  if (createdAt !== undefined && idEnd !== undefined) return [Number(createdAt), idEnd];
  throw invalid([{ path: 'cursor', message: 'cursor is not one that this list gave' }]);
}
