import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const TSC = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
const WEB = `import { Podgate } from './client/podgate.js';
export const { stdout } = await new Podgate({ baseUrl: 'http://127.0.0.1' }).execute('1');
`;
/** Where nothing of Node is known, and no newer library is asked for than any browser has. */
const WEB_OPTIONS = { strict: true, target: 'es2022', lib: ['es2022', 'dom'], types: [], module: 'esnext' };

test("the client's declarations are whole for a page in a browser, as they are for Node", async () => {
  const dir = await mkdtemp(join(tmpdir(), 'podgate-declarations-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const tsc = async (config: object) => {
    await writeFile(join(dir, 'tsconfig.json'), JSON.stringify(config));
    // What it finds it says on its output.
    return promisify(execFile)(process.execPath, [TSC, '-p', dir]).catch(({ stdout }) => ({ stdout }));
  };
  const emit = { noEmit: false, declaration: true, emitDeclarationOnly: true, rootDir: ROOT, outDir: dir };
  const built = await tsc({
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: { ...emit, typeRoots: [join(ROOT, 'node_modules/@types')] },
    include: [],
    files: [join(ROOT, 'client/podgate.ts')],
  });
  expect(built.stdout).toBe('');
  await writeFile(join(dir, 'web.ts'), WEB);
  const compilerOptions = { ...WEB_OPTIONS, moduleResolution: 'bundler', noEmit: true };
  expect((await tsc({ compilerOptions, files: ['web.ts'] })).stdout).toBe('');
});
