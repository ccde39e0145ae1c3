import * as z from 'zod';
import { checkSchema, invalid } from './parse-json.ts';

export const MAX_PAGE = 1_000;

const pageQuery = z.object({
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(MAX_PAGE, `limit exceeds maximum of ${MAX_PAGE}`)
    .default(MAX_PAGE),
  cursor: z.string().max(256).optional(),
});

/** What OpenAPI says of `limit` and `cursor`. */
export const PAGE_QUERY = {
  limit: { description: 'Entries at most', schema: { type: 'integer', minimum: 1, maximum: MAX_PAGE } },
  cursor: { description: '`next_cursor` of the page before', schema: { type: 'string' } },
} as const;

/** One page of entries that are sorted by name; the cursor is the last name of the page before. */
export function pageOf<Entry extends { name: string }>(
  entries: readonly Entry[],
  query: URLSearchParams,
): { page: Entry[]; next_cursor: string | null } {
  const { limit, cursor } = checkSchema(pageQuery, Object.fromEntries(query));
  if (cursor !== undefined && !/^[a-z0-9-]{1,63}$/.test(cursor))
    throw invalid([{ path: 'cursor', message: 'This cursor was never given.' }]);
  const rest = cursor === undefined ? entries : entries.filter(({ name }) => name > cursor);
  const page = rest.slice(0, limit);
  return { page, next_cursor: rest.length > limit ? (page.at(-1)?.name ?? null) : null };
}
