import { stat } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { clusterName } from '../shared/cluster-name.ts';
import { dirOption, MAX_KEY_BYTES, podgateFolder } from './config.ts';
import { addToDenyFile } from './deny-file.ts';
import { type Io, printable, printableJson, UsageError, write } from './io.ts';
import { issueCallerKey } from './issue-keys.ts';
import { findIssuer, initKeyFolder } from './key-folder.ts';
import { parseDuration, parseLimits, parseNames, parseScopeNames, parseSubject } from './key-options.ts';
import { parseCommand } from './parse-command.ts';
import { readInput } from './read-input.ts';
import { showIssued } from './show-issued.ts';
import { describeFolder, describeToken, readTokenId } from './show-keys.ts';

const HELP = `Usage: podgate keys COMMAND [OPTIONS]

  init      make the keys that sign, and the files that a gateway takes
  create    make a key for a caller and print it alone
  show      say what a key allows, or what the folder of keys holds; never a secret
  revoke    put a key or a subject on the deny-list

init [--tenant NAME] [--force]
  --tenant NAME         the organisation that the keys speak for (default: default)
  --force               replace the keys that are there: everything they signed stops working

create --sub NAME [OPTIONS]
  --sub NAME            who the key is for; what they store and run is theirs alone
  --scope SCOPE         execute, files, sessions, clusters; repeat it, or use commas (default: the first three)
  --clusters NAME       clusters that it may use, * at the end stands for any ending (default: all of the tenant's)
  --default-cluster N   where its code runs unless a request says otherwise
  --templates NAME      templates that it may use (default: all)
  --limit NAME=VALUE    a ceiling: timeout_ms, memory_mb, concurrency, requests_per_minute, file_bytes, file_count,
                        sessions; repeat it for several
  --expires SPAN        how long it lives, like 12h or 30d (default 30d)

show [KEY | -]          - reads the key from standard input, where no list of processes shows it

revoke JTI|KEY|- ...    revokes keys by their id, or by themselves
revoke --sub NAME       revokes all keys of a subject, those to come too; --agent for an agent's

  --dir FOLDER          the folder of keys (default .podgate)

Example:
  podgate keys init
  podgate keys create --sub alice --limit concurrency=4 --expires 7d > alice.key
`;

type Action = (args: string[], io: Io, now: () => number) => Promise<void>;
const ACTIONS: Readonly<Record<string, Action>> = { init, create, show, revoke };

/** `podgate keys …`. Resolves to the exit status; throws UsageError where the user has to change something. */
export async function runKeysCommand(args: string[], io: Io, now: () => number = Date.now): Promise<number> {
  const [name, ...rest] = args;
  const options = rest.slice(0, rest.includes('--') ? rest.indexOf('--') : undefined);
  const wantsHelp = name === 'help' || [name, ...options].some((each) => each === '--help' || each === '-h');
  if (name === undefined || wantsHelp) {
    await write(wantsHelp ? io.stdout : io.stderr, HELP);
    return wantsHelp ? 0 : 2;
  }
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (action === undefined) {
    throw new UsageError(`there is no 'keys ${name}'. 'podgate keys --help' says what there is.`);
  }
  await action(rest, io, now);
  return 0;
}

async function init(args: string[], io: Io): Promise<void> {
  const options = {
    dir: { type: 'string' },
    tenant: { type: 'string' },
    force: { type: 'boolean' },
  } as const;
  const { values } = parseCommand('keys', () => parseArgs({ args, options }));
  const dir = values.dir ?? podgateFolder();
  await initKeyFolder(dir, {
    ...(values.tenant !== undefined && { tenant: values.tenant }),
    ...(values.force !== undefined && { force: values.force }),
  });
  await write(io.stdout, `Made keys in ${dir}. Next: podgate keys create --sub NAME${dirOption(dir)}\n`);
}

async function create(args: string[], io: Io, now: () => number): Promise<void> {
  const { values } = parseCommand('keys', () =>
    parseArgs({
      args,
      options: {
        dir: { type: 'string' },
        sub: { type: 'string' },
        scope: { type: 'string', multiple: true },
        clusters: { type: 'string', multiple: true },
        'default-cluster': { type: 'string' },
        templates: { type: 'string', multiple: true },
        limit: { type: 'string', multiple: true },
        expires: { type: 'string' },
      },
    }),
  );
  if (values.sub === undefined) throw new UsageError('say who the key is for with --sub NAME');
  const { scope, clusters, 'default-cluster': defaultCluster, templates, limit, expires } = values;
  const dir = values.dir ?? podgateFolder();
  const issued = await issueCallerKey(
    dir,
    {
      sub: parseSubject(values.sub),
      ...(scope && { scopes: parseScopeNames(scope) }),
      ...(clusters && { clusters: parseNames('--clusters', clusters) }),
      ...(defaultCluster !== undefined && { defaultCluster: parseClusterName(defaultCluster) }),
      ...(templates && { templates: parseNames('--templates', templates) }),
      ...(limit && { limits: parseLimits(limit) }),
      ...(expires !== undefined && { lifetimeSeconds: parseDuration(expires) }),
    },
    now(),
  );
  await showIssued(issued, dir, io);
}

function parseClusterName(name: string): string {
  if (clusterName.safeParse(name).success) return name;
  throw new UsageError(`--default-cluster: '${name}' is no name: use 1 to 63 of a-z, 0-9 and -`);
}

async function show(args: string[], io: Io, now: () => number): Promise<void> {
  const options = { dir: { type: 'string' } } as const;
  const parsed = parseCommand('keys', () => parseArgs({ args, options, allowPositionals: true }));
  const [key, ...more] = parsed.positionals;
  if (more.length > 0) throw new UsageError('show one key at a time');
  const dir = parsed.values.dir ?? podgateFolder();
  const shown =
    key === undefined ? await describeFolder(dir) : await describeToken(dir, await readKey(key, io), now());
  await write(io.stdout, printableJson(shown));
}

async function revoke(args: string[], io: Io): Promise<void> {
  const options = {
    dir: { type: 'string' },
    sub: { type: 'string' },
    issuer: { type: 'string' },
    agent: { type: 'boolean' },
  } as const;
  const { values, positionals } = parseCommand('keys', () =>
    parseArgs({ args, options, allowPositionals: true }),
  );
  const dir = values.dir ?? podgateFolder();
  if (positionals.length === 0 && values.sub === undefined) {
    throw new UsageError('say what to revoke: the id of a key (jti), the key itself, or --sub NAME');
  }
  const jti: string[] = [];
  for (const each of positionals) {
    await refuseFile(each, dir);
    jti.push(readTokenId(await readKey(each, io)));
  }
  const sub: { issuer: string; sub: string }[] = [];
  if (values.sub !== undefined) {
    const kind = values.agent ? 'agents' : 'callers';
    const issuer = values.issuer ?? (await findIssuer(dir, kind)).trust.issuer;
    sub.push({ issuer, sub: parseSubject(values.sub) });
  }
  await addToDenyFile(dir, { jti, sub });
  const what = [...jti, ...sub.map((entry) => `${entry.sub} of ${entry.issuer}`)].join(', ');
  await write(
    io.stdout,
    `Revoked ${printable(what)}. Gateways that read this deny-list act on it within 15 s.\n`,
  );
}

/** Any word may be an id: a key's file that is taken for one leaves its key good. */
async function refuseFile(given: string, dir: string): Promise<void> {
  const isFile = given !== '-' && (await stat(given).catch(() => undefined))?.isFile();
  if (!isFile) return;
  throw new UsageError(
    `${given} is a file: revoke the key in it with 'podgate keys revoke -${dirOption(dir)} < ${given}'`,
  );
}

/** The key given on the command line, or that on standard input. */
async function readKey(given: string, { stdin, signal }: Io): Promise<string> {
  if (given !== '-') return given.trim();
  const text = await readInput(stdin, { name: 'standard input', maxBytes: MAX_KEY_BYTES, signal });
  return text.toString().trim();
}
