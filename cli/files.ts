import { basename, dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { Podgate } from '../client/podgate.ts';
import { clientConfig } from './config.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { type Io, printable, UsageError, write } from './io.ts';
import { openFile } from './open-file.ts';
import { parseCommand } from './parse-command.ts';
import { refuseExtra } from './refuse-extra.ts';
import { saveFile } from './save-files.ts';

const HELP = `Usage: podgate files upload FILE…          prints an id and a name a line
       podgate files list
       podgate files get ID [-o FILE]      to standard output unless told where
       podgate files delete ID…
`;

/** `podgate files`. */
export async function runFiles(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parse(args);
  const [verb, ...rest] = positionals;
  if (values.help || verb === undefined) {
    await write(values.help ? io.stdout : io.stderr, HELP);
    return values.help ? 0 : 2;
  }
  const verbs: Record<string, (podgate: Podgate) => Promise<number>> = {
    upload: (podgate) => upload(podgate, needed(rest, 'a FILE'), io),
    list: (podgate) => {
      refuseExtra(rest, 0);
      return list(podgate, io);
    },
    get: (podgate) => {
      refuseExtra(rest, 1);
      return get(podgate, needed(rest, 'an ID')[0] as string, values.o, io);
    },
    delete: (podgate) => remove(podgate, needed(rest, 'an ID'), io),
  };
  const act = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined;
  if (!act) throw new UsageError(`there is no 'files ${verb}': use upload, list, get or delete`);
  const config = await clientConfig(io.signal);
  return act(new Podgate({ baseUrl: config.baseUrl, key: config.key }));
}

function parse(args: string[]) {
  return parseCommand('files', () =>
    parseArgs({
      args,
      allowPositionals: true,
      options: { o: { type: 'string', short: 'o' }, help: { type: 'boolean', short: 'h' } },
    }),
  );
}

function needed(rest: string[], what: string): string[] {
  if (rest.length === 0) throw new UsageError(`give ${what}. 'podgate files --help' says more.`);
  return rest;
}

async function upload(podgate: Podgate, files: string[], io: Io): Promise<number> {
  for (const file of files) {
    const stored = await podgate.files.upload(await openFile(file), {
      filename: basename(file),
      signal: io.signal,
    });
    const line = printable(`${stored.file_id}  ${stored.filename}`);
    if (!(await write(io.stdout, `${line}\n`))) return EXIT_STATUS.readerGone;
  }
  return 0;
}

async function list(podgate: Podgate, io: Io): Promise<number> {
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<Podgate['files']['list']>> = await podgate.files.list({
      ...(cursor === null ? {} : { cursor }),
      signal: io.signal,
    });
    for (const file of page.files) {
      const time = new Date(file.upload_time * 1000).toISOString();
      const line = `${file.file_id}  ${time}  ${String(file.size_bytes).padStart(11)}  ${file.filename}`;
      if (!(await write(io.stdout, `${printable(line)}\n`))) return EXIT_STATUS.readerGone;
    }
    cursor = page.next_cursor;
  } while (cursor !== null);
  return 0;
}

async function get(podgate: Podgate, id: string, to: string | undefined, io: Io): Promise<number> {
  const { body } = await podgate.files.download(id, { signal: io.signal });
  if (to !== undefined) {
    await saveFile(dirname(to), basename(to), body);
    return 0;
  }
  for await (const chunk of body) if (!(await write(io.stdout, chunk))) return EXIT_STATUS.readerGone;
  return 0;
}

async function remove(podgate: Podgate, ids: string[], io: Io): Promise<number> {
  for (const id of ids) await podgate.files.delete(id, { signal: io.signal });
  return 0;
}
