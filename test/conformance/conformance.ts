import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, cp, glob, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { TemplateInput } from '../../shared/template.ts';
import { type Stack, startStack } from '../fakes/stack.ts';
import { DIFFERENCES, type Difference } from './differences.ts';

/** The interpreter of the template `conformance`, and the one that the same tests run on directly. */
export const PYTHON = process.env.PODGATE_CONFORMANCE_PYTHON ?? '/usr/bin/python3';
/** A folder like CPython's Lib/test: modules that the interpreter's own package lacks are taken from it. */
export const MORE_TESTS = process.env.PODGATE_CONFORMANCE_TESTS;
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
  const { status } = spawnSync(PYTHON, ['-c', 'import test.support, test.test_json'], { stdio: 'ignore' });
  if (status === 0) return undefined;
  return `${PYTHON} has no regression tests of its own: apt-get install libpython3.N-testsuite, with its own N`;
}

/** A gateway and an agent with the template `conformance`. */
export async function startConformanceStack(): Promise<Stack> {
  const { templates } = parse(await readFile(TEMPLATES, 'utf8')) as { templates: TemplateInput[] };
  return startStack({
    templates: templates.map((template) => ({ ...template, python: PYTHON })),
    variables: { MAX_EXEC_TIMEOUT_MS: String(TIMEOUT_MS) },
  });
}

/** Runs the modules with the interpreter itself, as an ordinary user in a folder of its own. */
export async function runDirectly(modules: readonly string[], moreTests = MORE_TESTS): Promise<Report> {
  await using folder = await newFolder();
  for (const { from, to } of await moreFiles(modules, moreTests)) await cp(from, join(folder.path, to));
  if (process.getuid?.() === 0) await chown(folder.path, ORDINARY_ID, ORDINARY_ID);
  const user = process.getuid?.() === 0 ? { uid: ORDINARY_ID, gid: ORDINARY_ID } : {};
  return await report(
    folder.path,
    spawn(PYTHON, [VERDICTS, ...modules], { ...user, ...settings(folder.path) }),
  );
}

/** Runs the modules through `podgate exec`, as anybody would. */
export async function runThroughPodgate(
  stack: Stack,
  modules: readonly string[],
  moreTests = MORE_TESTS,
): Promise<Report> {
  await using folder = await newFolder();
  const files = (await moreFiles(modules, moreTests)).flatMap(({ from, to }) => ['-f', `${from}=${to}`]);
  const options = ['-t', 'conformance', '--timeout', String(TIMEOUT_MS), '-o', folder.path, ...files];
  const { env, ...rest } = settings(folder.path);
  const child = spawn(process.execPath, [MAIN, 'exec', ...options, VERDICTS, ...modules], {
    ...rest,
    env: { ...env, PODGATE_URL: stack.url, PODGATE_KEY: stack.ownKey },
  });
  return await report(folder.path, child);
}

/** Modules that neither run found: nothing was compared. */
export function notCompared(direct: Report, podgate: Report): string[] {
  return Object.keys(direct.tests).filter(
    (name) => direct.tests[name]?.verdict === 'absent' && podgate.tests[name]?.verdict === 'absent',
  );
}

/** Every test case whose verdict is another through Podgate, and what explains it. */
export function compare(direct: Report, podgate: Report): Deviation[] {
  const absent: Verdict = { verdict: 'absent' };
  const names = new Set([...Object.keys(direct.tests), ...Object.keys(podgate.tests)]);
  return [...names].sort().flatMap((test) => {
    const [own, through] = [direct.tests[test] ?? absent, podgate.tests[test] ?? absent];
    if (own.verdict === through.verdict) return [];
    const says = (through.verdict === 'ok' ? own.reason : through.reason) ?? '';
    const explained = DIFFERENCES.find(
      ({ tests, verdict, shows }) => tests.includes(test) && verdict === through.verdict && shows.test(says),
    );
    return [{ test, direct: own, podgate: through, explained }];
  });
}

/** Files of modules to stage beside the program, where verdicts.py looks for what the interpreter lacks. */
async function moreFiles(
  modules: readonly string[],
  folder: string | undefined,
): Promise<{ from: string; to: string }[]> {
  if (folder === undefined) return [];
  const patterns = modules.flatMap((module) => [`${module}.py`, `${module}/**/*.*`]);
  const found: { from: string; to: string }[] = [];
  for await (const name of glob(patterns, { cwd: folder }))
    found.push({ from: join(folder, name), to: join('more', 'test', name) });
  return found;
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
