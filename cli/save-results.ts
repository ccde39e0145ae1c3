import type { PythonValue, ResultEvent } from '../client/types.ts';
import { isJsonType } from '../shared/result-api.ts';
import type { FileSaver } from './file-saver.ts';
import { type Io, printable, write } from './io.ts';

const ENDINGS: Record<string, string> = {
  'text/plain': 'txt',
  'text/html': 'html',
  'text/markdown': 'md',
  'text/latex': 'tex',
  'image/svg+xml': 'svg',
  'image/png': 'png',
  'image/jpeg': 'jpg',
  'application/pdf': 'pdf',
};

export type ShowResultsOptions = {
  io: Io;
  /** For what a terminal cannot show. */
  saver?: FileSaver | undefined;
};

/** Prints values as text, and saves their other forms and figures, or says that they are there. */
export async function showResults(event: ResultEvent, { io, saver }: ShowResultsOptions): Promise<void> {
  const taken = new Set(event.files.map(({ path }) => path));
  const counts = { result: 0, display: 0, figure: 0 };
  for (const { kind, data } of event.results ?? []) {
    counts[kind] += 1;
    const { 'text/plain': plain, ...rest } = data;
    if (typeof plain === 'string') await write(io.stdout, `${plain}\n`);
    for (const [type, value] of Object.entries(rest)) {
      const ending = Object.hasOwn(ENDINGS, type) ? ENDINGS[type] : isJsonType(type) ? 'json' : undefined;
      if (saver === undefined || ending === undefined) {
        const advice = saver === undefined ? 'give -o DIR to save it' : 'not saved';
        await write(
          io.stderr,
          `podgate: ${printable(kind)} ${counts[kind]} as ${printable(type)}: ${advice}\n`,
        );
        continue;
      }
      const name = freeName(`${kind}-${counts[kind]}`, ending, taken);
      await saver.save(name, async () => new Blob([bytesOf(type, value)]).stream());
    }
  }
  for (const { type, reason } of event.results_omitted ?? [])
    await write(io.stderr, `podgate: ${printable(type)} ${whyLess(reason)}\n`);
}

const LESS = new Map([
  ['too_many_rows', 'has only the first rows'],
  ['fewer_dots', 'has fewer dots an inch'],
  ['truncated', 'has only its beginning'],
]);

function whyLess(reason: string): string {
  return LESS.get(reason) ?? `was left out: ${printable(reason)}`;
}

/** The program's own files come first. */
function freeName(stem: string, ending: string, taken: Set<string>): string {
  let name = `${stem}.${ending}`;
  for (let again = 2; taken.has(name); again += 1) name = `${stem}-${again}.${ending}`;
  taken.add(name);
  return name;
}

/** Text as it is, JSON as JSON, anything else was in base64. */
function bytesOf(type: string, value: PythonValue['data'][string]): Uint8Array<ArrayBuffer> {
  if (isJsonType(type)) return Buffer.from(JSON.stringify(value));
  const isText = type.startsWith('text/') || type === 'image/svg+xml';
  return Buffer.from(String(value), isText ? 'utf8' : 'base64');
}
