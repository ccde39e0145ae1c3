import { execFile, spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { freePort } from '../fakes/free-port.ts';
import { startPodgate } from '../fakes/podgate-command.ts';
import { describeSandboxed } from './suite.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TEST_MS = 90_000;

type Block = { language: string; text: string };
type Ran = { status: number | string | null; stdout: string; stderr: string };

/** What stands between fences, in order. */
function blocksOf(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, language = '', text = '']) => ({
    language,
    text,
  }));
}

function typeScriptOf(blocks: readonly Block[]): string[] {
  return blocks.filter(({ language }) => language === 'ts').map(({ text }) => text);
}

/** A folder of its own where `npx podgate` is this tree's command. */
async function newFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'podgate-readme-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  await mkdir(join(dir, 'bin'));
  const npx = `#!/bin/sh\n[ "$1" = podgate ] || exit 97\nshift\nexec ${process.execPath} ${ROOT}/cli/main.ts "$@"\n`;
  await writeFile(join(dir, 'bin', 'npx'), npx, { mode: 0o755 });
  return dir;
}

/** Runs commands as they are printed, but for the port, which may be taken here. What they leave behind is ended. */
function runPrinted(text: string, dir: string, port: number, env: Record<string, string> = {}): Promise<Ran> {
  const script = `trap 'set +e; kill $(jobs -p) 2>/dev/null; wait' EXIT\nset -eo pipefail\n${text.replaceAll('8000', String(port))}`;
  const PATH = `${join(dir, 'bin')}:${process.env.PATH}`;
  const options = { cwd: dir, env: { PATH, HOME: dir, PORT: String(port), ...env }, timeout: TEST_MS };
  return new Promise((resolve) => {
    execFile('bash', ['-c', script], options, (error, stdout, stderr) =>
      resolve({ status: error ? (error.code ?? error.signal ?? 'failed') : 0, stdout, stderr }),
    );
  });
}

async function startDev(dir: string): Promise<number> {
  const dev = startPodgate(['dev'], { cwd: dir, env: { PORT: '0', PODGATE_CANARY: 'off' } });
  const [, port] = await dev.shows(/listens on http:\/\/127\.0\.0\.1:(\d+)/);
  return Number(port);
}

describeSandboxed('What the README prints', () => {
  let blocks: Block[] = [];
  const blockWith = (words: string): string => {
    const found = blocks.filter(({ text }) => text.includes(words));
    expect(found.map(({ text }) => text)).toEqual([expect.any(String)]);
    return (found[0] as Block).text;
  };

  beforeAll(async () => {
    blocks = blocksOf(await readFile(join(ROOT, 'README.md'), 'utf8'));
  });

  test('on its first screen is what happens', { timeout: TEST_MS }, async () => {
    const dir = await newFolder();
    const port = await startDev(dir);
    const [, command = '', answer = ''] =
      /^\$ (curl .*)\n(.*)\n/m.exec(blockWith('npm ci && npm start')) ?? [];
    const ran = await runPrinted(command, dir, port);
    expect([ran.status, ran.stderr]).toEqual([0, '']);
    // `…` stands for what differs, and so does the time that it took.
    const printed = JSON.parse(answer.replace(', …', ''));
    expect(JSON.parse(ran.stdout)).toMatchObject({ ...printed, duration_ms: expect.any(Number) });
  });

  test('of the command does what it says', { timeout: TEST_MS }, async () => {
    const dir = await newFolder();
    const port = await startDev(dir);
    await writeFile(join(dir, 'data.csv'), 'a,b\n1,2\n');
    await writeFile(join(dir, 'plot.py'), 'open("plot.txt", "w").write(open("data.csv").read() * 2)');
    const ran = await runPrinted(blockWith('npx podgate exec -f data.csv'), dir, port, {
      PODGATE_URL: `http://127.0.0.1:${port}`,
    });
    expect([ran.status, ran.stderr]).toEqual([0, expect.not.stringMatching(/error|Traceback/i)]);
    expect(ran.stdout.match(/^42$/gm)).toHaveLength(3);
    expect(ran.stdout.split('\n')).toContain('kept');
    expect(await readdir(join(dir, 'results'))).toEqual(['plot.txt']);
    expect(await readFile(join(dir, 'results', 'plot.txt'), 'utf8')).toBe('a,b\n1,2\na,b\n1,2\n');
  });

  test('of two processes brings up both, and runs code', { timeout: TEST_MS }, async () => {
    const dir = await newFolder();
    const port = await freePort();
    const ran = await runPrinted(blockWith('npx podgate gateway > gateway.log &'), dir, port, {
      PODGATE_AGENT_PORT: '0',
      PODGATE_METRICS_PORT: '0',
      PODGATE_CANARY: 'off',
    });
    // Both log to files, so that no line of theirs comes into what a program prints.
    expect([ran.status, ran.stdout.split('\n').slice(1)]).toEqual([0, ['hello', '']]);
  });

  test('of docs/evaluating.md scores programs', { timeout: TEST_MS }, async () => {
    const dir = await newFolder();
    const port = await startDev(dir);
    const onPage = blocksOf(await readFile(join(ROOT, 'docs', 'evaluating.md'), 'utf8'));
    expect(onPage.map(({ language }) => language)).toEqual(['python', 'ts']);
    const [python, typeScript] = onPage.map(({ text }) => text);
    await writeFile(join(dir, 'score.py'), `${python}`.replaceAll('8000', String(port)));
    const scored = await runPrinted('python3 score.py', dir, port);
    // On a machine that does much else the last has no time left before its processor time is over.
    const verdicts = expect.stringMatching(/^\['right', 'wrong', 'failed', '(cpu_limit|timed_out)'\]\n$/);
    expect([scored.stdout, scored.stderr]).toEqual([verdicts, '']);
    const program = [
      `import { readFileSync } from 'node:fs';`,
      `import { Podgate } from '${ROOT}client/podgate.ts';`,
      `const key = readFileSync('.podgate/dev-key', 'utf8').trim();`,
      `const podgate = new Podgate({ baseUrl: 'http://127.0.0.1:${port}', key });`,
      typeScript,
      `console.log(JSON.stringify(right));`,
    ].join('\n');
    await writeFile(join(dir, 'score.ts'), program);
    const judged = await runPrinted(`${process.execPath} score.ts`, dir, port);
    expect([judged.stdout, judged.stderr]).toEqual(['[true,false]\n', '']);
  });

  test('of the client, and docs/sessions.md, is TypeScript that runs', { timeout: TEST_MS }, async () => {
    const dir = await newFolder();
    const port = await startDev(dir);
    const own = typeScriptOf(blocks);
    const onPage = typeScriptOf(blocksOf(await readFile(join(ROOT, 'docs', 'sessions.md'), 'utf8')));
    expect([own.length, onPage.length]).toEqual([2, 2]);
    const [first = '', ...others] = own;
    const program = [
      `import { readFileSync } from 'node:fs';`,
      `const key = readFileSync('.podgate/dev-key', 'utf8').trim();`,
      // One folder in a tar, to be unpacked.
      `const url = 'data:application/x-tar;base64,' + readFileSync('repo.tar').toString('base64');`,
      first.replace("'podgate'", `'${ROOT}client/podgate.ts'`),
      `const ends: unknown[] = [];`,
      ...[others, onPage].map(
        (texts) =>
          `{\n${texts.join('\n')}\nends.push(error?.value ?? results.map(({ data }) => Object.keys(data)[0]));\n}`,
      ),
      `console.log(JSON.stringify(ends));`,
    ].join('\n');
    await writeFile(join(dir, 'program.ts'), program.replaceAll('8000', String(port)));
    const command = `mkdir repo && echo 1 > repo/one && tar cf repo.tar repo && ${process.execPath} program.ts`;
    const ran = await runPrinted(command, dir, port);
    expect([ran.status, ran.stderr]).toEqual([0, '']);
    const { status } = spawnSync('/usr/bin/python3', ['-c', 'import pandas, matplotlib.pyplot'], {
      stdio: 'ignore',
    });
    const end = status === 0 ? ['text/html', 'image/png'] : expect.stringContaining('is not defined');
    expect(JSON.parse(ran.stdout.split('\n').at(-2) ?? '')).toEqual([end, end]);
  });
});
