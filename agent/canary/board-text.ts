import * as z from 'zod';
import { ISOLATION_STATES } from '../../shared/announcement.ts';
import { MAX_BOARD_BYTES } from '../backends/backend.ts';
import { MAX_FINDINGS } from './findings.ts';
import type { Report } from './template-watch.ts';

const MAX_TEMPLATES = 64;

const boardSchema = z.record(
  z.string().max(64),
  z.object({
    at: z.number().min(0),
    findings: z
      .array(z.tuple([z.string().max(64), z.enum(ISOLATION_STATES), z.string().max(240)]))
      .max(MAX_FINDINGS),
  }),
);

/** Reports by template hash as one text, as many as fit: whoever misses one looks for itself. */
export function writeBoard(reports: Iterable<readonly [hash: string, report: Report]>): string {
  let text = '{}';
  const written: Record<string, z.input<typeof boardSchema>[string]> = {};
  for (const [hash, { atMs, findings }] of [...reports].slice(0, MAX_TEMPLATES)) {
    // What holds needs no words.
    const rows = findings.map(
      ({ name, state, detail }) => [name, state, state === 'holds' ? '' : detail] as const,
    );
    written[hash] = { at: atMs, findings: rows.map(([name, state, detail]) => [name, state, detail]) };
    const longer = JSON.stringify(written);
    if (Buffer.byteLength(longer) > MAX_BOARD_BYTES) break;
    text = longer;
  }
  return text;
}

/** Empty where it cannot be read: another version's, or nobody's. */
export function readBoard(text: string): ReadonlyMap<string, Report> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return new Map();
  }
  const board = boardSchema.safeParse(value);
  if (!board.success) return new Map();
  const entries = Object.entries(board.data).slice(0, MAX_TEMPLATES);
  return new Map(
    entries.map(([hash, { at, findings }]) => [
      hash,
      { atMs: at, findings: findings.map(([name, state, detail]) => ({ name, state, detail })) },
    ]),
  );
}
