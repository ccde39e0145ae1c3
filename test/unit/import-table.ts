import { isBuiltin } from 'node:module';
import { basename, posix } from 'node:path';
import { parseSync } from 'vite';

/** A file of the repository: path from its root with forward slashes, and its text. */
export interface SourceFile {
  path: string;
  text: string;
}

const ALLOWED_DIRECTORIES: Record<string, readonly string[]> = {
  shared: ['shared'],
  gateway: ['gateway', 'shared'],
  agent: ['agent', 'shared'],
  client: ['client'],
  cli: ['cli', 'client', 'agent', 'gateway', 'shared'],
};

/** Directories that may import only these packages; the others may import every runtime dependency. */
const ALLOWED_PACKAGES: Record<string, readonly string[]> = { shared: ['zod', 'jose'], client: [] };

/** At most one file imports each; `within` names the directory it must be in. */
const ONE_IMPORTER: Record<string, { within?: string }> = {
  '@kubernetes/client-node': {},
  undici: {},
  jose: { within: 'shared' },
};

/** Packages that load node:* themselves: for the gateway's adapters, not for its core. */
const NODE_ONLY_PACKAGES = ['@hono/node-server', '@kubernetes/client-node', 'prom-client', 'undici', 'ws'];

const CATCH_ALL_NAMES = ['util', 'utils', 'helper', 'helpers', 'common'];
const KEBAB_CASE = /^[a-z0-9]+(-[a-z0-9]+)*(\.(test|d))?\.(ts|mjs)$/;
const NODE_GLOBALS = ['process', 'Buffer', 'require', '__dirname', '__filename', 'setImmediate'];
const CLOCKS_AND_IO = ['Date.now', 'performance.now', 'Math.random', 'setTimeout', 'setInterval', 'fetch'];

/** Every breach of DESIGN.md's table of imports, as `path: sentence`. */
export function findImportBreaches(files: readonly SourceFile[], dependencies: readonly string[]): string[] {
  const breaches: string[] = [];
  const importers = new Map<string, string[]>();
  const readers = new Map<string, string[]>();
  for (const file of files) {
    const facts = readFacts(file);
    const directory = topDirectory(file.path);
    breaches.push(...[...facts.errors, ...importBreaches(file.path, facts, dependencies)].map(at(file.path)));
    breaches.push(...globalBreaches(file.path, facts).map(at(file.path)));
    if (facts.computedImport && directory !== 'cli') {
      breaches.push(`${file.path}: the specifier of an import is a string literal outside cli/`);
    }
    for (const name of new Set(facts.imports.map(packageName))) append(importers, name, file.path);
    // No TypeScript, and so no config.ts, can be loaded where it runs.
    if (facts.readsEnvironment && file.path !== 'cli/bin.mjs') append(readers, directory, file.path);
  }
  for (const [name, { within }] of Object.entries(ONE_IMPORTER)) {
    const paths = importers.get(name) ?? [];
    if (paths.length > 1) breaches.push(`${paths.join(', ')}: ${name} has one importer, not ${paths.length}`);
    for (const path of paths) {
      if (within !== undefined && topDirectory(path) !== within) {
        breaches.push(`${path}: ${name} is imported only inside ${within}/`);
      }
    }
  }
  for (const [directory, paths] of readers) {
    if (paths.length > 1) breaches.push(`${paths.join(', ')}: ${directory}/ reads process.env in one file`);
    for (const path of paths) {
      if (basename(path) !== 'config.ts') breaches.push(`${path}: process.env is read only in config.ts`);
    }
  }
  return breaches;
}

/** Circles of modules that load each other, each as `a → b → a`. Types, and what is imported when it is needed, load nothing. */
export function findImportCycles(files: readonly SourceFile[]): string[] {
  const loads = new Map(files.map((file) => [file.path, loadedBy(file)]));
  const cycles: string[] = [];
  const done = new Set<string>();
  const follow = (path: string, trail: readonly string[]): void => {
    const first = trail.indexOf(path);
    if (first >= 0) cycles.push([...trail.slice(first), path].join(' → '));
    if (first >= 0 || done.has(path)) return;
    for (const next of loads.get(path) ?? []) follow(next, [...trail, path]);
    done.add(path);
  };
  for (const path of loads.keys()) follow(path, []);
  return cycles;
}

/** Every breach of STYLE.md's rules on names and exports, as `path: sentence`. */
export function findStyleBreaches(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => {
    const name = basename(file.path);
    const stem = name.slice(0, name.indexOf('.'));
    const breaches = [...readFacts(file).style];
    if (CATCH_ALL_NAMES.includes(stem)) breaches.push(`${name} says nothing of what it holds`);
    if (stem === 'index') breaches.push('no barrels: name the file after what it exports');
    if (!KEBAB_CASE.test(name)) breaches.push(`${name} is not kebab-case`);
    return breaches.map(at(file.path));
  });
}

function importBreaches(path: string, facts: Facts, dependencies: readonly string[]): string[] {
  const directory = topDirectory(path);
  const core = isGatewayCore(path);
  return facts.imports.flatMap((specifier) => {
    if (specifier.startsWith('.')) {
      const target = posix.join(posix.dirname(path), specifier);
      if (target === 'package.json' && directory === 'cli') return [];
      if (!ALLOWED_DIRECTORIES[directory]?.includes(topDirectory(target))) {
        return [`${directory}/ must not import ${target}`];
      }
      if (core && topDirectory(target) === 'gateway' && !isGatewayCore(target)) {
        return [`the gateway's core must not import its adapter ${target}`];
      }
      return [];
    }
    const name = packageName(specifier);
    if (isBuiltin(specifier)) {
      if (core) return [`the gateway's core must not import ${specifier}`];
      return ALLOWED_PACKAGES[directory] ? [`${directory}/ must not import ${specifier}`] : [];
    }
    if (!(ALLOWED_PACKAGES[directory] ?? [name]).includes(name)) {
      return [`${directory}/ must not import ${name}`];
    }
    if (core && NODE_ONLY_PACKAGES.includes(name)) return [`the gateway's core must not import ${name}`];
    return dependencies.includes(name) ? [] : [`${specifier} is no runtime dependency in package.json`];
  });
}

function globalBreaches(path: string, facts: Facts): string[] {
  const directory = topDirectory(path);
  const webOnly = directory === 'shared' || directory === 'client' || isGatewayCore(path);
  const forbidden = [
    ...(webOnly && basename(path) !== 'config.ts' ? NODE_GLOBALS : []),
    ...(directory === 'shared' ? [...CLOCKS_AND_IO, 'new Date()'] : []),
  ];
  return forbidden.filter((name) => facts.globals.has(name)).map((name) => `must not use ${name} here`);
}

function loadedBy(file: SourceFile): string[] {
  return readFacts(file)
    .loads.filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => posix.join(posix.dirname(file.path), specifier));
}

interface Facts {
  imports: string[];
  /** Those of them that are loaded before the file's own code. */
  loads: string[];
  globals: Set<string>;
  readsEnvironment: boolean;
  computedImport: boolean;
  style: string[];
  errors: string[];
}

interface Node {
  type: string;
  [key: string]: unknown;
}

const LOADING = ['ImportDeclaration', 'ExportNamedDeclaration', 'ExportAllDeclaration'];
const IMPORTING = [...LOADING, 'ImportExpression', 'TSImportType'];

function readFacts({ path, text }: SourceFile): Facts {
  const facts: Facts = {
    imports: [],
    loads: [],
    globals: new Set(),
    readsEnvironment: false,
    computedImport: false,
    style: [],
    errors: [],
  };
  const { program, errors } = parseSync(path, text);
  for (const error of errors) facts.errors.push(`does not parse: ${error.message}`);
  visit(program as unknown as Node, (node) => {
    readImport(node, facts);
    readGlobal(node, facts);
    readStyle(node, facts);
  });
  return facts;
}

function readImport(node: Node, facts: Facts): void {
  const source =
    node.type === 'TSExternalModuleReference'
      ? node.expression
      : IMPORTING.includes(node.type)
        ? node.source
        : null;
  if (source === null || source === undefined) return;
  const specifier = literal(source);
  if (specifier === undefined) {
    facts.computedImport = true;
    return;
  }
  facts.imports.push(specifier);
  const isType = node.importKind === 'type' || node.exportKind === 'type';
  if (LOADING.includes(node.type) && !isType) facts.loads.push(specifier);
  const specifiers = (node.specifiers ?? []) as Node[];
  if (/^(node:)?process$/.test(specifier) && specifiers.some((each) => nameOf(each.imported) === 'env')) {
    facts.readsEnvironment = true;
  }
}

function readGlobal(node: Node, facts: Facts): void {
  if (node.type === 'MemberExpression') {
    const object = nameOf(node.object) ?? globalMember(node.object);
    const property = nameOf(node.property) ?? literal(node.property);
    if (object === undefined) return;
    facts.globals.add(object).add(`${object}.${property}`);
    if (object === 'globalThis' && property !== undefined) facts.globals.add(property);
    if (object === 'process' && property === 'env') facts.readsEnvironment = true;
  }
  if (node.type === 'VariableDeclarator' && nameOf(node.init) === 'process') {
    const { properties } = node.id as { properties?: Node[] };
    facts.globals.add('process');
    if (properties?.some((each) => nameOf(each.key) === 'env')) facts.readsEnvironment = true;
  }
  if (node.type === 'CallExpression') {
    const callee = nameOf(node.callee);
    if (callee !== undefined) facts.globals.add(callee);
  }
  if (node.type === 'NewExpression' && nameOf(node.callee) === 'Date') {
    if ((node.arguments as Node[]).length === 0) facts.globals.add('new Date()');
  }
}

function readStyle(node: Node, facts: Facts): void {
  if (node.type === 'TSEnumDeclaration') facts.style.push('no enums: use a union of string literals');
  const exportsDefault =
    node.type === 'ExportDefaultDeclaration' ||
    node.type === 'TSExportAssignment' ||
    (node.type === 'ExportSpecifier' && (nameOf(node.exported) ?? literal(node.exported)) === 'default');
  if (exportsDefault) facts.style.push('no default exports');
}

function visit(node: Node, see: (node: Node) => void): void {
  see(node);
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (typeof (child as Node | null)?.type === 'string') visit(child as Node, see);
    }
  }
}

function nameOf(node: unknown): string | undefined {
  const { type, name } = (node ?? {}) as { type?: string; name?: string };
  return type === 'Identifier' ? name : undefined;
}

/** The `x` of `globalThis.x`. */
function globalMember(node: unknown): string | undefined {
  const { type, object, property } = (node ?? {}) as Record<string, unknown>;
  return type === 'MemberExpression' && nameOf(object) === 'globalThis' ? nameOf(property) : undefined;
}

function literal(node: unknown): string | undefined {
  const { type, value } = (node ?? {}) as { type?: string; value?: unknown };
  return type === 'Literal' && typeof value === 'string' ? value : undefined;
}

function isGatewayCore(path: string): boolean {
  return path.startsWith('gateway/') && !/^gateway\/(node\/|(node|worker)\.ts$)/.test(path);
}

function packageName(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

function topDirectory(path: string): string {
  return path.slice(0, Math.max(path.indexOf('/'), 0));
}

function at(path: string): (sentence: string) => string {
  return (sentence) => `${path}: ${sentence}`;
}

function append(map: Map<string, string[]>, key: string, value: string): void {
  map.set(key, [...(map.get(key) ?? []), value]);
}
