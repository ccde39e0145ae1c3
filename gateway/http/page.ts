import * as z from 'zod';
import { clusterName } from '../../shared/cluster-name.ts';
import { MAX_NAME_BYTES } from '../../shared/limits.ts';
import { checkSchema, invalid } from './parse-json.ts';

export const MAX_PAGE = 1_000;

/** A file's name is the longest, each byte of it spelled out. */
const MAX_CURSOR_CHARS = 6 * MAX_NAME_BYTES;

const pageQuery = z.object({
  limit: z
    .string()
    .regex(/^\d{1,9}$/, 'limit must be a whole number')
    .transform(Number)
    .pipe(z.int().min(1, 'limit must be at least 1').max(MAX_PAGE, `limit exceeds maximum of ${MAX_PAGE}`))
    .default(MAX_PAGE),
  cursor: z.string().max(MAX_CURSOR_CHARS, 'cursor is not one that this list gave').optional(),
});
export type Page = z.output<typeof pageQuery>;

/** What OpenAPI says of `limit` and `cursor`. */
export const PAGE_QUERY = {
  limit: { description: 'Entries at most', schema: { type: 'integer', minimum: 1, maximum: MAX_PAGE } },
  cursor: { description: '`next_cursor` of the page before', schema: { type: 'string' } },
} as const;

/** `limit` and `cursor` of a list; clients that know no cursor see MAX_PAGE entries. Throws `invalid_request`. */
export function readPage(query: URLSearchParams): Page {
  return checkSchema(pageQuery, Object.fromEntries(query));
}

/** One page of entries that are sorted by name; the cursor is the last name of the page before. */
export function pageOf<Entry extends { name: string }>(
  entries: readonly Entry[],
  query: URLSearchParams,
): { page: Entry[]; next_cursor: string | null } {
  const { limit, cursor } = readPage(query);
  if (cursor !== undefined && !clusterName.safeParse(cursor).success)
    throw invalid([{ path: 'cursor', message: 'cursor is not one that this list gave' }]);
  const rest = cursor === undefined ? entries : entries.filter(({ name }) => name > cursor);
  const page = rest.slice(0, limit);
  return { page, next_cursor: rest.length > limit ? (page.at(-1)?.name ?? null) : null };
}
