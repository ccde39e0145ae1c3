import { type FSWatcher, watch } from 'node:fs';
import { readFile, readlink } from 'node:fs/promises';
import { basename, dirname, isAbsolute, normalize, sep } from 'node:path';
import { Failure } from '../../shared/errors.ts';
import { parseTemplate } from '../../shared/template.ts';
import type { Clock } from '../clock.ts';
import type { TemplateVariables } from '../config.ts';
import type { Log } from '../log.ts';
import { defaultTemplate, setVariables } from './default-template.ts';
import { parseTemplates, type Templates } from './parse-templates.ts';

/** Editors and ConfigMaps change a file in several steps: they are read once, this long after the first. */
const SETTLE_MS = 100;
/** Of a folder that is replaced with what is in it, and of many network file systems, no watch tells. */
const REREAD_MS = 15_000;

/** The templates that an agent serves, as they are now. */
export type TemplateSource = {
  current(): Templates;
  /** Calls back after every change. Returns the way to stop that. */
  onChange(listener: (templates: Templates) => void): () => void;
  close(): void;
};

/** Templates that never change. */
export function fixedTemplates(templates: Templates): TemplateSource {
  return { current: () => templates, onChange: () => () => {}, close: () => {} };
}

export type TemplateSourceDeps = {
  /** The templates file; without one the variables define `default`. */
  file?: string | undefined;
  variables: TemplateVariables;
  clock: Clock;
  log: Log;
};

/** Reads the templates and, where they come from a file, follows it. Throws a Failure when the first read fails. */
export async function createTemplateSource(deps: TemplateSourceDeps): Promise<TemplateSource> {
  const { file, variables, log } = deps;
  if (file === undefined) {
    const template = await parseTemplate(defaultTemplate(variables));
    return fixedTemplates(new Map([[template.name, template]]));
  }
  const ignored = setVariables(variables);
  if (ignored.length > 0) log('template_variables_ignored', { file, variables: ignored });
  return followFile(file, await readTemplates(file), deps);
}

async function readTemplates(file: string): Promise<Templates> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new Failure('invalid_request', `The templates file '${file}' cannot be read (${code}).`, { cause });
  }
  return parseTemplates(text, basename(file));
}

/** Links that are followed from the file's name on. */
const MAX_LINKS = 40;

/**
 * Names in the file's directory whose change can change what is read: its own, and those that its link leads through,
 * as a ConfigMap's `..data`. Everything else that happens there is somebody else's.
 */
async function namesThatMatter(file: string): Promise<Set<string>> {
  const folder = dirname(file);
  const names = new Set<string>();
  let path = basename(file);
  for (let links = 0; links < MAX_LINKS; links += 1) {
    const [name = '', ...rest] = path.split(sep);
    if (name === '..') break;
    names.add(name);
    const target = await readlink(`${folder}${sep}${name}`).catch(() => undefined);
    if (target === undefined || isAbsolute(target)) break;
    path = normalize([target, ...rest].join(sep));
  }
  return names;
}

function followFile(file: string, first: Templates, { clock, log }: TemplateSourceDeps): TemplateSource {
  const listeners = new Set<(templates: Templates) => void>();
  let current = first;
  let names: ReadonlySet<string> = new Set([basename(file)]);
  let lastFault: string | undefined;
  let cancelRead: (() => void) | undefined;
  let cancelReread = () => {};
  let closed = false;

  async function reload(): Promise<void> {
    try {
      names = await namesThatMatter(file);
      const templates = await readTemplates(file);
      if (closed) return;
      lastFault = undefined;
      if (sameTemplates(current, templates)) return;
      current = templates;
      log('templates_changed', { file, templates: [...templates.keys()] });
      for (const listener of listeners) listener(templates);
    } catch (error) {
      // The last good set stays. The same fault is said once, however often the directory changes.
      const detail = error instanceof Failure ? error.detail : String(error);
      if (!closed && detail !== lastFault)
        log('templates_refused', { file, code: 'invalid_request', detail });
      lastFault = detail;
    }
  }

  /** `name` is null where the system does not say. */
  function changed(_event?: string, name: string | null = null): void {
    if (closed || cancelRead || (name !== null && !names.has(name))) return;
    cancelRead = clock.after(SETTLE_MS, () => {
      cancelRead = undefined;
      void reload();
    });
  }

  function rereadLater(): void {
    cancelReread = clock.after(REREAD_MS, () => {
      changed();
      rereadLater();
    });
  }

  // The directory: a rename over the file, or a ConfigMap's swap of its ..data link, leaves a watch on the file blind.
  let watcher: FSWatcher | undefined;
  const unwatched = (cause: unknown) => log('templates_unwatched', { file, cause });
  try {
    watcher = watch(dirname(file), { persistent: false }, changed).on('error', unwatched);
  } catch (cause) {
    // Such as a system that has no watch to give: it is read every REREAD_MS all the same.
    unwatched(cause);
  }
  // What changed between the first read and the watch.
  changed();
  rereadLater();

  return {
    current: () => current,
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close() {
      closed = true;
      cancelRead?.();
      cancelReread();
      watcher?.close();
      watcher = undefined;
      listeners.clear();
    },
  };
}

function sameTemplates(a: Templates, b: Templates): boolean {
  return a.size === b.size && [...a].every(([name, { hash }]) => b.get(name)?.hash === hash);
}
