import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../agent/clock.ts';
import { defaultTemplate } from '../../agent/templates/default-template.ts';
import { parseTemplates } from '../../agent/templates/parse-templates.ts';
import { createTemplateSource, type TemplateSource } from '../../agent/templates/template-source.ts';
import { Failure } from '../../shared/errors.ts';
import { parseTemplate, templateSchema } from '../../shared/template.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

async function faults(text: string): Promise<string[]> {
  try {
    await parseTemplates(text, 'templates.yaml');
  } catch (error) {
    if (error instanceof Failure) return error.detail.split('\n');
    throw error;
  }
  return [];
}

const ONE = 'templates:\n  - name: default\n';

describe('a templates file', () => {
  test('gives templates by name, with defaults and a hash that ignores the order of members', async () => {
    const templates = await parseTemplates(
      `templates:
  - name: default
  - name: sci
    image: registry.example/python-sci:1
    languages: [python, bash]
    preload: [numpy, pandas]
    resources: { memory_mb: 1024, timeout_ms: 120000 }
    pool: { min: 1, max: 30 }
    reuse: reset
`,
      'templates.yaml',
    );
    expect([...templates.keys()]).toEqual(['default', 'sci']);
    expect(templates.get('sci')).toMatchObject({
      reuse: 'reset',
      resources: { memory_mb: 1_024, cpu_seconds: 5 },
    });
    const swapped = await parseTemplates('templates:\n  - pool: {max: 8, min: 2}\n    name: default\n', 'x');
    expect(swapped.get('default')?.hash).toBe(templates.get('default')?.hash);
  });

  test.for([
    ['', ['templates.yaml: must hold one member, "templates", with a list of definitions']],
    ['- name: x\n', ['templates.yaml:1: must hold one member, "templates", with a list of definitions']],
    ['templates: []\n', ['templates.yaml:1: must hold 1 to 64 templates, has 0']],
    [
      'templates:\n  - name: x\nmore: 1\n',
      ['templates.yaml:1: must hold one member, "templates", with a list of definitions'],
    ],
    ['templates:\n  - name: x\n    name: y\n', ['templates.yaml:3: Map keys must be unique']],
    [
      'templates:\n  - name: x\n    pool: {min: 3, max: 2}\n',
      ['templates.yaml:3: pool.min: pool.min must not exceed pool.max'],
    ],
    ['templates:\n  - name: UP\n', ['templates.yaml:2: name: use 1 to 63 of a-z, 0-9 and -']],
    [
      'templates:\n  - name: x\n\n    resources:\n      memory_mb: 1\n',
      [/^templates.yaml:5: resources.memory_mb: /],
    ],
    [
      'templates:\n  - name: x\n    immage: y\n    kubernetes:\n      toleration: []\n      node: {}\n',
      [
        'templates.yaml:5: kubernetes.toleration: there is no such member',
        'templates.yaml:6: kubernetes.node: there is no such member',
        'templates.yaml:3: immage: there is no such member',
      ],
    ],
    ['templates:\n  - {}\n', [/^templates.yaml:2: name: /]],
    ['templates:\n  - name: x\n  - name: x\n', ["templates.yaml:3: 'x' is defined twice"]],
    ['templates:\n  - name: [\n', [/^templates.yaml:\d: /]],
    ['templates:\n  - just text\n', [/^templates.yaml:2: /]],
    [
      'templates:\n  - name: a\n    network: all\n  - name: b\n    reuse: never\n',
      [/^templates.yaml:3: network/, /^templates.yaml:5: reuse/],
    ],
    [
      `a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [${'*a,'.repeat(200)}]\ntemplates:\n  - name: x\n`,
      [/must hold one member/],
    ],
  ] as [string, (string | RegExp)[]][])('%j is refused with its line', async ([text, sentences]) => {
    const found = await faults(text);
    expect(found).toHaveLength(sentences.length);
    for (const [index, sentence] of sentences.entries())
      expect(found[index]).toEqual(typeof sentence === 'string' ? sentence : expect.stringMatching(sentence));
  });

  test('of the documentation is one that an agent takes', async () => {
    const page = readFileSync(new URL('../../docs/templates.md', import.meta.url), 'utf8');
    const [, example = ''] = /```yaml\n([\s\S]*?)```/.exec(page) ?? [];
    const templates = await parseTemplates(example, 'templates.yaml');
    expect([...templates.keys()]).toEqual(['default', 'sci', 'volume', 'conformance']);
  });

  test('may not unfold into more than it holds', async () => {
    const bomb = `templates:\n  - name: x\n    preload: &a [json]\n${Array.from({ length: 150 }, (_, n) => `    k${n}: *a\n`).join('')}`;
    expect(await faults(bomb)).toEqual([expect.stringMatching(/^templates.yaml:2: cannot be read/)]);
  });

  test('holds 64 templates and not one more', async () => {
    const file = (count: number) =>
      `templates:\n${Array.from({ length: count }, (_, n) => `  - name: t${n}\n`).join('')}`;
    expect(await faults(file(64))).toEqual([]);
    expect(await faults(file(65))).toEqual(['templates.yaml:2: must hold 1 to 64 templates, has 65']);
  });
});

describe('the default template', () => {
  test('is what the environment says, and a plain one where it says nothing', async () => {
    expect(await parseTemplate(defaultTemplate({}))).toMatchObject({
      name: 'default',
      pool: { min: 2, max: 8 },
      resources: { memory_mb: 256, cpu_seconds: 5, timeout_ms: 60_000 },
    });
    const set = {
      POOL_SIZE: 30,
      MAX_EXEC_TIMEOUT_MS: 9_000,
      CPU_TIME_LIMIT_SEC: 7,
      MEMORY_LIMIT_MB: 512,
      KUBERNETES_IMAGE: 'sci',
    };
    expect(await parseTemplate(defaultTemplate(set))).toMatchObject({
      image: 'sci',
      pool: { min: 30, max: 30 },
      resources: { memory_mb: 512, cpu_seconds: 7, timeout_ms: 9_000 },
    });
  });
});

type Followed = {
  source: TemplateSource;
  folder: string;
  logged: [string, Record<string, unknown>][];
  next(event: string): Promise<void>;
};

async function follow(prepare: (folder: string) => string, clock: Clock = systemClock): Promise<Followed> {
  const folder = mkdtempSync(join(tmpdir(), 'podgate-templates-'));
  cleanups.push(() => rmSync(folder, { recursive: true }));
  const logged: Followed['logged'] = [];
  const waiting: [event: string, resolve: () => void][] = [];
  const source = await createTemplateSource({
    file: prepare(folder),
    variables: {},
    clock,
    log(event, fields = {}) {
      logged.push([event, { ...fields }]);
      const at = waiting.findIndex(([name]) => name === event);
      if (at >= 0) waiting.splice(at, 1)[0]?.[1]();
    },
  });
  cleanups.push(() => source.close());
  return {
    source,
    folder,
    logged,
    next: (event) => new Promise((resolve) => waiting.push([event, resolve])),
  };
}

describe('a templates file that changes', () => {
  const plain = (folder: string) => {
    const file = join(folder, 'templates.yaml');
    writeFileSync(file, ONE);
    return file;
  };

  test('is read again when it is replaced by a rename', async () => {
    const { source, folder, next } = await follow(plain);
    const seen: string[][] = [];
    source.onChange((templates) => seen.push([...templates.keys()]));
    const changed = next('templates_changed');
    writeFileSync(join(folder, 'new'), `${ONE}  - name: more\n`);
    renameSync(join(folder, 'new'), join(folder, 'templates.yaml'));
    await changed;
    expect(seen).toEqual([['default', 'more']]);
    expect([...source.current().keys()]).toEqual(['default', 'more']);
  });

  test('is read again when a ConfigMap swaps its link', async () => {
    const { source, folder, next } = await follow((folder) => {
      mkdirSync(join(folder, '..one'));
      writeFileSync(join(folder, '..one', 'templates.yaml'), ONE);
      symlinkSync('..one', join(folder, '..data'));
      symlinkSync('..data/templates.yaml', join(folder, 'templates.yaml'));
      return join(folder, 'templates.yaml');
    });
    const changed = next('templates_changed');
    mkdirSync(join(folder, '..two'));
    writeFileSync(join(folder, '..two', 'templates.yaml'), `${ONE}    reuse: reset\n`);
    symlinkSync('..two', join(folder, '..tmp'));
    renameSync(join(folder, '..tmp'), join(folder, '..data'));
    await changed;
    expect(source.current().get('default')?.reuse).toBe('reset');
  });

  test('is read again when a folder that leads to it is another, of which no watch tells', async () => {
    const soon: Clock = { ...systemClock, after: (ms, run) => systemClock.after(Math.min(ms, 100), run) };
    const { source, folder, next } = await follow((folder) => {
      mkdirSync(join(folder, 'one'));
      mkdirSync(join(folder, 'two'));
      writeFileSync(join(folder, 'one', 'templates.yaml'), ONE);
      writeFileSync(join(folder, 'two', 'templates.yaml'), `${ONE}  - name: more\n`);
      symlinkSync('one', join(folder, 'current'));
      return join(folder, 'current', 'templates.yaml');
    }, soon);
    // Behind this the read that follows the first is over.
    const edited = next('templates_changed');
    writeFileSync(join(folder, 'one', 'templates.yaml'), `${ONE}    reuse: reset\n`);
    await edited;
    const changed = next('templates_changed');
    symlinkSync('two', join(folder, 'new'));
    renameSync(join(folder, 'new'), join(folder, 'current'));
    await changed;
    expect([...source.current().keys()]).toEqual(['default', 'more']);
  });

  test('into one that is bad keeps the last good set, says so once, and recovers', async () => {
    const { source, folder, logged, next } = await follow(plain);
    const file = join(folder, 'templates.yaml');
    const refused = next('templates_refused');
    writeFileSync(file, 'templates: 5\n');
    await refused;
    expect([...source.current().keys()]).toEqual(['default']);
    for (let n = 0; n < 3; n += 1) {
      writeFileSync(join(folder, `other-${n}`), '');
      await new Promise((resolve) => setTimeout(resolve, 130));
    }
    expect(logged.filter(([event]) => event === 'templates_refused')).toHaveLength(1);
    const changed = next('templates_changed');
    writeFileSync(file, `${ONE}  - name: more\n`);
    await changed;
    expect(source.current().size).toBe(2);
  });

  test('is not read for what happens beside it, however much that is', async () => {
    let reads = 0;
    const hasty: Clock = {
      ...systemClock,
      after(ms, run) {
        if (ms > 1_000) return () => {};
        reads += 1;
        return systemClock.after(0, run);
      },
    };
    const { source, folder, next } = await follow(plain, hasty);
    for (let n = 0; n < 200; n += 1) await writeFile(join(folder, `other-${n % 10}`), String(n));
    // Events come in order: when the file's own is here, those of the others were.
    const changed = next('templates_changed');
    writeFileSync(join(folder, 'other-0'), `${ONE}  - name: more\n`);
    renameSync(join(folder, 'other-0'), join(folder, 'templates.yaml'));
    await changed;
    // The one after the first read, and the one for the change.
    expect(reads).toBeLessThanOrEqual(2);
    expect(source.current().size).toBe(2);
  });

  test('stops the start when it is bad or not there', async () => {
    await expect(follow((folder) => join(folder, 'none'))).rejects.toMatchObject({
      detail: expect.stringMatching(/cannot be read \(ENOENT\)/),
    });
  });

  test('is not followed any more once it is closed', async () => {
    const { source, folder, logged } = await follow(plain);
    source.close();
    writeFileSync(join(folder, 'templates.yaml'), `${ONE}  - name: more\n`);
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(logged).toEqual([]);
  });

  test('names the variables that it makes void', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'podgate-templates-'));
    cleanups.push(() => rmSync(folder, { recursive: true }));
    const logged: [string, unknown][] = [];
    const source = await createTemplateSource({
      file: plain(folder),
      variables: { POOL_SIZE: 3, MEMORY_LIMIT_MB: undefined },
      clock: systemClock,
      log: (event, fields) => logged.push([event, fields]),
    });
    source.close();
    expect(logged).toEqual([
      ['template_variables_ignored', expect.objectContaining({ variables: ['POOL_SIZE'] })],
    ]);
    expect(source.current().get('default')?.pool).toEqual({ min: 2, max: 8 });
  });
});

test('every member of a template is named in docs/templates.md', () => {
  const text = readFileSync(new URL('../../docs/templates.md', import.meta.url), 'utf8');
  const { resources, kubernetes, docker, local, ...rest } = templateSchema.shape;
  const sections = [resources, kubernetes, docker, local].map((section) => section.unwrap().shape);
  const names = [templateSchema.shape, ...sections].flatMap(Object.keys);
  expect(names).toEqual(expect.arrayContaining([...Object.keys(rest), 'max_age_seconds', 'tolerations']));
  expect(names.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
});

test('a templates file of a folder that cannot be watched is read all the same, and that is said', () => {
  const folder = mkdtempSync(join(tmpdir(), 'podgate-templates-'));
  cleanups.push(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'templates.yaml');
  writeFileSync(file, ONE);
  const program = `
    import { systemClock as clock } from '${new URL('../../agent/clock.ts', import.meta.url)}';
    import { createTemplateSource } from '${new URL('../../agent/templates/template-source.ts', import.meta.url)}';
    const log = (event) => console.log(event);
    const source = await createTemplateSource({ file: '${file}', variables: {}, clock, log });
    console.log([...source.current().keys()].join());
    source.close();`;
  // A user namespace of its own, that may watch nothing.
  const script = 'echo 0 > /proc/sys/user/max_inotify_watches && exec "$@"';
  const node = [process.execPath, '--input-type=module', '--eval', program];
  const args = ['--user', '--map-root-user', 'sh', '-c', script, 'sh', ...node];
  const { stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8' });
  expect({ stdout, stderr }).toEqual({ stdout: 'templates_unwatched\ndefault\n', stderr: '' });
});
