import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Stack, startStack } from '../fakes/stack.ts';
import { DIFFERENCES, type Difference } from './differences.ts';

/** The interpreter of the template `conformance`, and the one that the same tests run on directly. */
export const PYTHON = '/usr/bin/python3';
/** Seconds each, most of them; what comes after them takes minutes. */
export const QUICK_MODULES = [
  'test_json',
  'test_csv',
  'test_dataclasses',
  'test_decimal',
  'test_re',
] as const;
export const SLOW_MODULES = [
  'test_unicodedata',
  'test_zipfile',
  'test_sqlite3',
  'test_subprocess',
  'test_multiprocessing_fork',
  'test_multiprocessing_forkserver',
  'test_multiprocessing_spawn',
] as const;

const VERDICTS = fileURLToPath(new URL('./verdicts.py', import.meta.url));
const TEMPLATES = fileURLToPath(new URL('./templates.yaml', import.meta.url));
const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));
const TIMEOUT_MS = 1_800_000;
/** As Debian's `nobody`. */
const ORDINARY_ID = 65_534;

export type Verdict = { verdict: string; reason?: string };
export type Report = {
  python: string;
  /** By module. */
  seconds: Record<string, number>;
  /** By test case. */
  tests: Record<string, Verdict>;
};

/** One test case that went another way through Podgate. */
export type Deviation = {
  test: string;
  direct: Verdict;
  podgate: Verdict;
  explained: Difference | undefined;
};

/** Why the tests cannot run here; undefined where they can. */
export function conformanceTrouble(): string | undefined {
  if (!existsSync(PYTHON)) return `there is no ${PYTHON}`;
  if (existsSync('/usr/lib/python3/dist-packages') && findTestPackage() === undefined)
    return "CPython's own tests are not installed: apt-get install libpython3.11-testsuite (libpython3.N-testsuite)";
  return undefined;
}

function findTestPackage(): string | undefined {
  for (let minor = 9; minor <= 14; minor += 1) {
    const path = `/usr/lib/python3.${minor}/test/test_json/__init__.py`;
    if (existsSync(path)) return path;
  }
  return undefined;
}

/** A gateway and an agent with the template `conformance`. */
export function startConformanceStack(): Promise<Stack> {
  return startStack({ templatesFile: TEMPLATES, variables: { MAX_EXEC_TIMEOUT_MS: String(TIMEOUT_MS) } });
}

/** Runs the modules with the interpreter itself, as an ordinary user in a folder of its own. */
export async function runDirectly(modules: readonly string[]): Promise<Report> {
  await using folder = await newFolder();
  if (process.getuid?.() === 0) await chown(folder.path, ORDINARY_ID, ORDINARY_ID);
  const user = process.getuid?.() === 0 ? { uid: ORDINARY_ID, gid: ORDINARY_ID } : {};
  return await report(
    folder.path,
    spawn(PYTHON, [VERDICTS, ...modules], { ...user, ...settings(folder.path) }),
  );
}

/** Runs the modules through `podgate exec`, as anybody would. */
export async function runThroughPodgate(stack: Stack, modules: readonly string[]): Promise<Report> {
  await using folder = await newFolder();
  const options = ['-t', 'conformance', '--timeout', String(TIMEOUT_MS), '-o', folder.path];
  const { env, ...rest } = settings(folder.path);
  const child = spawn(process.execPath, [MAIN, 'exec', ...options, VERDICTS, ...modules], {
    ...rest,
    env: { ...env, PODGATE_URL: stack.url, PODGATE_KEY: stack.ownKey },
  });
  return await report(folder.path, child);
}

/** Every test case whose verdict is another through Podgate, and what explains it. */
export function compare(direct: Report, podgate: Report): Deviation[] {
  const absent = { verdict: 'absent' };
  const names = new Set([...Object.keys(direct.tests), ...Object.keys(podgate.tests)]);
  return [...names].sort().flatMap((test) => {
    const [own, through] = [direct.tests[test] ?? absent, podgate.tests[test] ?? absent];
    if (own.verdict === through.verdict) return [];
    const explained = DIFFERENCES.find(
      ({ tests, verdict }) => tests.includes(test) && verdict === through.verdict,
    );
    return [{ test, direct: own, podgate: through, explained }];
  });
}

function settings(folder: string) {
  return {
    cwd: folder,
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: folder, TMPDIR: folder, LANG: 'C.UTF-8' },
    stdio: ['ignore', 'ignore', 'pipe'] as ['ignore', 'ignore', 'pipe'],
  };
}

async function report(folder: string, child: ReturnType<typeof spawn>): Promise<Report> {
  let words = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-4_000);
  });
  const [status, signal] = await once(child, 'close');
  try {
    return JSON.parse(await readFile(join(folder, 'verdicts.json'), 'utf8'));
  } catch (cause) {
    throw new Error(`no verdicts: status ${status}, signal ${signal}\n${words}`, { cause });
  }
}

async function newFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'podgate-conformance-'));
  await chmod(path, 0o755);
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
