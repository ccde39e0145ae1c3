import { readdirSync, readFileSync } from 'node:fs';
import { deflateSync } from 'node:zlib';

/** The text of `python3 -c` must fit one argument: Linux allows 131,072 bytes (MAX_ARG_STRLEN). */
export const MAX_LOADER_BYTES = 124 * 1_024;

const PACKAGE = 'podgate_runner';
const SOURCES = new URL(`./${PACKAGE}/`, import.meta.url);

/** `runner` is PID 1 of a sandbox; `local` makes a sandbox's namespaces first and then becomes that. */
export type Entry = 'runner' | 'local';

const ENTRIES: Record<Entry, string> = {
  runner: 'from podgate_runner.main import main as enter',
  local: 'from podgate_runner.local_sandbox import launch as enter',
};

/**
 * Finds modules in a dictionary instead of on a disk: an image needs nothing but an interpreter. `type(sys.__spec__)` is
 * ModuleSpec without importing importlib; `sys.argv` is left as the entry expects it.
 */
const IMPORTER = `
import sys, zlib, binascii, json
class Bundle:
    def __init__(self, sources): self.sources = sources
    def find_spec(self, name, path=None, target=None):
        if name not in self.sources: return None
        return type(sys.__spec__)(name, self, origin='<' + name + '>', is_package=name == '${PACKAGE}')
    def create_module(self, spec): return None
    def exec_module(self, module):
        name = module.__spec__.name
        exec(compile(self.sources[name], '<' + name + '>', 'exec', 0, True), module.__dict__)
`;

const loaders = new Map<Entry, string>();
let shim: string | undefined;

/** The text for `python3 -I -S -c`: all modules of the runner, compressed, and the call that starts it. */
export function runnerLoader(entry: Entry = 'runner'): string {
  const known = loaders.get(entry);
  if (known !== undefined) return known;
  const packed = deflateSync(JSON.stringify(readSources()), { level: 9 }).toString('base64');
  const loader = [
    IMPORTER.trim(),
    `sys.meta_path.insert(0, Bundle(json.loads(zlib.decompress(binascii.a2b_base64('${packed}')))))`,
    ENTRIES[entry],
    'enter(sys.argv[1])',
  ].join('\n');
  if (Buffer.byteLength(loader) > MAX_LOADER_BYTES) {
    throw new RangeError(
      `the runner's loader has ${Buffer.byteLength(loader)} bytes; ${MAX_LOADER_BYTES} is the most`,
    );
  }
  loaders.set(entry, loader);
  return loader;
}

/** The command of a sandbox. `config` is the object of agent/runner/protocol.md 2.1. */
export function runnerCommand(options: { python: string; config: object; entry?: Entry }): string[] {
  const { python, config, entry = 'runner' } = options;
  return [python, '-I', '-S', '-c', runnerLoader(entry), JSON.stringify(config)];
}

/** The command of an exec that hands its streams to the runner (protocol 2.2). Plain source: nothing to unpack. */
export function shimCommand(python: string): string[] {
  shim ??= `${readFileSync(new URL('shim.py', SOURCES), 'utf8')}\nmain()\n`;
  return [python, '-I', '-S', '-c', shim];
}

const COMMENTS = /^[ \t]*#.*$/gm;
/** Strings, and comments behind code, so that nothing is looked for in them; a docstring stands behind a colon or first. */
const STRINGS =
  /(?<=(?<![\s\S])|:\n+)(?<indent>[ \t]*)(?<docstring>"""[\s\S]*?""")$|"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#.*/gm;

/** Prose is a third of all that there is. Its lines stay, empty: tracebacks count them. */
function withoutProse(source: string): string {
  return source.replaceAll(COMMENTS, '').replaceAll(STRINGS, (text, indent, docstring) => {
    if (docstring === undefined) return text;
    return `${indent}""${'\n'.repeat(docstring.split('\n').length - 1)}`;
  });
}

/** Module name → source without prose, in a fixed order: the same sources give the same command. */
function readSources(): Record<string, string> {
  const names = readdirSync(SOURCES)
    .filter((name) => name.endsWith('.py'))
    .sort();
  return Object.fromEntries(
    names.map((name) => {
      const stem = name.slice(0, -'.py'.length);
      const module = stem === '__init__' ? PACKAGE : `${PACKAGE}.${stem}`;
      return [module, withoutProse(readFileSync(new URL(name, SOURCES), 'utf8'))];
    }),
  );
}
