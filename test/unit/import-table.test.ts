import { readdirSync, readFileSync } from 'node:fs';
import { join, posix, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { findImportBreaches, findImportCycles, findStyleBreaches, type SourceFile } from './import-table.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DEPENDENCIES = ['hono', 'ws', 'undici', 'jose', 'zod', 'prom-client', '@kubernetes/client-node'];

function readSources(directories: readonly string[]): SourceFile[] {
  return directories
    .flatMap((directory) => {
      try {
        return readdirSync(join(ROOT, directory), { recursive: true, withFileTypes: true });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
        throw error;
      }
    })
    .filter((entry) => entry.isFile() && /\.[cm]?[jt]sx?$/.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)).split(sep).join(posix.sep))
    .filter((path) => !/(^|\/)(node_modules|fixtures)\//.test(path))
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }));
}

function sources(files: Record<string, string>): SourceFile[] {
  return Object.entries(files).map(([path, text]) => ({ path, text }));
}

describe('this repository', () => {
  const program = readSources(['shared', 'gateway', 'agent', 'client', 'cli']);
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

  test('imports only what the table of DESIGN.md allows', () => {
    expect(program.length).toBeGreaterThan(0);
    expect(findImportBreaches(program, Object.keys(manifest.dependencies))).toEqual([]);
  });

  test('has no modules that load each other', () => {
    expect(findImportCycles(program)).toEqual([]);
  });

  test('has no default export, enum, barrel or catch-all file', () => {
    expect(findStyleBreaches([...program, ...readSources(['test', 'bench'])])).toEqual([]);
  });
});

describe('the table of imports', () => {
  const allowed: Record<string, string>[] = [
    { 'shared/frame.ts': "import { z } from 'zod'; import { LIMITS } from './limits.ts';" },
    { 'shared/keys.ts': "import { jwtVerify } from 'jose'; export const at = new Date(0);" },
    { 'gateway/app.ts': "import { Hono } from 'hono'; import type { Frame } from '../shared/frame.ts';" },
    { 'gateway/node.ts': "import { createServer } from 'node:http'; import './app.ts'; import 'ws';" },
    { 'gateway/node/listen.ts': "import 'node:http'; Buffer.from('');" },
    { 'gateway/config.ts': 'export const env = process.env;', 'agent/config.ts': 'process.env.PATH;' },
    { 'agent/link.ts': "import { WebSocket } from 'ws'; import 'node:net'; import '../shared/frame.ts';" },
    { 'cli/main.ts': "import '../gateway/node.ts'; import '../agent/link.ts'; import '../client/c.ts';" },
    { 'cli/bin.mjs': 'await import(entry); process.env.npm_lifecycle_event;' },
    { 'cli/config.ts': 'process.env;', 'cli/bin.mjs': 'process.env;' },
    { 'gateway/plan.ts': 'const phase = { process: 1 }; phase.process; limits.Buffer.size;' },
    { 'gateway/text.ts': 'export const text = "import(\'node:fs\')"; // process.env' },
  ];
  test.for(allowed)('allows %j', (files) => {
    expect(findImportBreaches(sources(files), DEPENDENCIES)).toEqual([]);
  });

  const breaches: [files: Record<string, string>, sentence: RegExp][] = [
    [{ 'shared/a.ts': "import '../gateway/app.ts';" }, /shared\/ must not import gateway\/app.ts/],
    [{ 'shared/a.ts': "import { readFile } from 'node:fs/promises';" }, /must not import node:fs\/promises/],
    [{ 'shared/a.ts': "import fs from 'fs';" }, /shared\/ must not import fs/],
    [{ 'shared/a.ts': "import 'hono/streaming';" }, /shared\/ must not import hono/],
    [{ 'shared/a.ts': 'export const now = () => Date.now();' }, /must not use Date.now/],
    [{ 'shared/a.ts': 'export const now = () => new Date();' }, /must not use new Date\(\)/],
    [{ 'shared/a.ts': 'setTimeout(() => {}, 1);' }, /must not use setTimeout/],
    [{ 'shared/a.ts': 'Buffer.from("x");' }, /must not use Buffer/],
    [{ 'shared/a.ts': 'globalThis.process.exit();' }, /must not use process/],
    [{ 'gateway/a.ts': "import '../agent/link.ts';" }, /gateway\/ must not import agent\/link.ts/],
    [{ 'gateway/a.ts': "export * from '../client/c.ts';" }, /gateway\/ must not import client\/c.ts/],
    [{ 'gateway/a.ts': "export type { Link } from '../agent/link.ts';" }, /must not import agent/],
    [{ 'gateway/a.ts': "await import('../agent/link.ts');" }, /must not import agent/],
    [{ 'gateway/a.ts': "type L = import('../agent/link.ts').Link;" }, /must not import agent/],
    [{ 'gateway/a.ts': "import link = require('../agent/link.ts');" }, /must not import agent/],
    [{ 'gateway/a.ts': 'await import(name);' }, /is a string literal/],
    [{ 'gateway/a.ts': "import type { Server } from 'node:http';" }, /core must not import node:http/],
    [{ 'gateway/a.ts': "import { WebSocket } from 'ws';" }, /core must not import ws/],
    [
      { 'gateway/a.ts': "import { listen } from './node/listen.ts';" },
      /its adapter gateway\/node\/listen.ts/,
    ],
    [{ 'gateway/nodes.ts': "import 'node:http';" }, /core must not import node:http/],
    [{ 'agent/a.ts': "import '../gateway/app.ts';" }, /agent\/ must not import gateway/],
    [{ 'agent/a.ts': "import '../client/c.ts';" }, /agent\/ must not import client/],
    [{ 'agent/a.ts': "import '../cli/main.ts';" }, /agent\/ must not import cli/],
    [{ 'agent/a.ts': "import '../test/fakes/clock.ts';" }, /agent\/ must not import test/],
    [{ 'agent/a.ts': "import fc from 'fast-check';" }, /fast-check is no runtime dependency/],
    [{ 'agent/a.ts': "import 'podgate/shared/frame.ts';" }, /is no runtime dependency/],
    [
      { 'client/a.ts': "import type { Event } from '../shared/events.ts';" },
      /client\/ must not import shared/,
    ],
    [{ 'client/a.ts': "import { z } from 'zod';" }, /client\/ must not import zod/],
    [{ 'client/a.ts': "import 'node:stream';" }, /client\/ must not import node:stream/],
    [{ 'agent/a.ts': "import 'jose';" }, /jose is imported only inside shared/],
    [{ 'shared/a.ts': "import 'jose';", 'shared/b.ts': "import 'jose';" }, /jose has one importer, not 2/],
    [{ 'agent/a.ts': "import 'undici';", 'cli/b.ts': "await import('undici');" }, /undici has one importer/],
    [
      {
        'agent/a.ts': "import '@kubernetes/client-node';",
        'agent/b.ts': "import type { V1Pod } from '@kubernetes/client-node';",
      },
      /client-node has one importer/,
    ],
    [{ 'agent/a.ts': 'process.env.HOME;' }, /process.env is read only in config.ts/],
    [{ 'agent/a.ts': "process['env'];" }, /process.env is read only in config.ts/],
    [{ 'agent/a.ts': 'const { env } = process;' }, /process.env is read only in config.ts/],
    [{ 'agent/a.ts': "import { env } from 'node:process';" }, /process.env is read only in config.ts/],
    [{ 'agent/a.ts': 'globalThis.process.env;' }, /process.env is read only in config.ts/],
    [{ 'agent/config.ts': 'process.env;', 'agent/pool/config.ts': 'process.env;' }, /in one file/],
    [{ 'agent/a.ts': 'import {' }, /does not parse/],
  ];
  test.for(breaches)('refuses %j', ([files, sentence]) => {
    expect(findImportBreaches(sources(files), DEPENDENCIES).join('\n')).toMatch(sentence);
  });
});

describe('modules that load each other', () => {
  test('are found, directly and through others', () => {
    const files = sources({
      'agent/a.ts': "import { b } from './b.ts'; import { c } from './in/c.ts';",
      'agent/b.ts': "export { a } from './a.ts';",
      'agent/in/c.ts': "export * from './d.ts';",
      'agent/in/d.ts': "import '../a.ts';",
    });
    expect(findImportCycles(files)).toEqual([
      'agent/a.ts → agent/b.ts → agent/a.ts',
      'agent/a.ts → agent/in/c.ts → agent/in/d.ts → agent/a.ts',
    ]);
  });

  const allowed: Record<string, string>[] = [
    { 'agent/a.ts': "import './b.ts'; import './c.ts';", 'agent/b.ts': "import './c.ts';", 'agent/c.ts': '' },
    { 'agent/a.ts': "import { b } from './b.ts';", 'agent/b.ts': "import type { A } from './a.ts';" },
    { 'agent/a.ts': "import { b } from './b.ts';", 'agent/b.ts': "export type { A } from './a.ts';" },
    { 'agent/a.ts': "import { b } from './b.ts';", 'agent/b.ts': "await import('./a.ts');" },
  ];
  test.for(allowed)('are none in %j', (files) => {
    expect(findImportCycles(sources(files))).toEqual([]);
  });
});

describe('the rules on names and exports', () => {
  test('allow a kebab-case file with named exports', () => {
    const text = "export { default as zod } from 'zod'; export const state = { enum: 1, default: 2 };";
    expect(
      findStyleBreaches(sources({ 'shared/frame-codec.ts': text, 'test/unit/a-b.test.ts': '' })),
    ).toEqual([]);
  });

  const breaches: [path: string, text: string, sentence: RegExp][] = [
    ['shared/a.ts', 'export default 1;', /no default exports/],
    ['shared/a.ts', 'const a = 1; export { a as default };', /no default exports/],
    ['shared/a.ts', "export { default } from './b.ts';", /no default exports/],
    ['shared/a.ts', 'export = 1;', /no default exports/],
    ['shared/a.ts', 'export enum State { Open }', /no enums/],
    ['shared/a.ts', 'declare const enum State { Open }', /no enums/],
    ['agent/utils.ts', '', /says nothing/],
    ['test/fakes/helpers.ts', '', /says nothing/],
    ['shared/common.ts', '', /says nothing/],
    ['client/index.ts', '', /no barrels/],
    ['agent/podSpec.ts', '', /not kebab-case/],
  ];
  test.for(breaches)('refuse %s with %j', ([path, text, sentence]) => {
    expect(findStyleBreaches(sources({ [path]: text })).join('\n')).toMatch(sentence);
  });
});
