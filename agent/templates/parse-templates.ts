import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLMap } from 'yaml';
import * as z from 'zod';
import { MAX_TEMPLATES } from '../../shared/announcement.ts';
import { Failure } from '../../shared/errors.ts';
import { parseTemplate, type Template } from '../../shared/template.ts';

export const MAX_TEMPLATES_FILE_BYTES = 1_048_576;

export type Templates = ReadonlyMap<string, Template>;

/**
 * Parses a templates file: `templates:` with a list of definitions. Throws a Failure (`invalid_request`) whose detail
 * names the file, and line by line what is wrong and what is allowed.
 *
 * @param name How messages call the file.
 */
export async function parseTemplates(text: string, name: string): Promise<Templates> {
  if (Buffer.byteLength(text) > MAX_TEMPLATES_FILE_BYTES)
    throw refuse([`${name}: is larger than ${MAX_TEMPLATES_FILE_BYTES} bytes`]);
  const lines = new LineCounter();
  // Aliases that expand to gigabytes are refused; a key given twice is an error and not the last one's win.
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false });
  const [broken] = document.errors;
  if (broken) throw refuse([`${name}:${lines.linePos(broken.pos[0]).line}: ${firstLine(broken.message)}`]);
  const at = (node: unknown) => {
    const start = (node as Node | null | undefined)?.range?.[0];
    return start === undefined ? name : `${name}:${lines.linePos(start).line}`;
  };
  const root = document.contents;
  const list = isMap(root) ? root.get('templates', true) : undefined;
  if (!isMap(root) || !isSeq(list) || root.items.length !== 1)
    throw refuse([`${at(root)}: must hold one member, "templates", with a list of definitions`]);
  if (list.items.length === 0 || list.items.length > MAX_TEMPLATES)
    throw refuse([`${at(list)}: must hold 1 to ${MAX_TEMPLATES} templates, has ${list.items.length}`]);
  const templates = new Map<string, Template>();
  const faults: string[] = [];
  for (const item of list.items) {
    try {
      const template = await parseTemplate((item as Node).toJS(document, { maxAliasCount: 100 }));
      if (templates.has(template.name)) faults.push(`${at(item)}: '${template.name}' is defined twice`);
      templates.set(template.name, template);
    } catch (error) {
      if (!(error instanceof z.ZodError)) throw refuse([`${at(item)}: cannot be read`], error);
      for (const [node, words] of error.issues.flatMap((issue) => faultsOf(item, issue)))
        faults.push(`${at(node)}: ${words}`);
    }
  }
  if (faults.length > 0) throw refuse(faults);
  return templates;
}

/** What is wrong, each with the node that it is about: a member that there is not has its own. */
function faultsOf(item: unknown, issue: z.core.$ZodIssue): [node: unknown, words: string][] {
  const node = nodeAt(item, issue.path);
  if (issue.code !== 'unrecognized_keys' || !isMap(node)) return [[node, sentence(issue)]];
  return issue.keys.map((key) => [
    keyNode(node, key),
    `${[...issue.path, key].map(String).join('.')}: there is no such member`,
  ]);
}

function keyNode(map: YAMLMap, name: string): unknown {
  return map.items.find(({ key }) => isScalar(key) && String(key.value) === name)?.key ?? map;
}

/** The innermost node that a path of zod's leads to: a missing member has the line of what should hold it. */
function nodeAt(item: unknown, path: readonly PropertyKey[]): unknown {
  let node = item;
  for (const key of path) {
    const inner = isMap(node) || isSeq(node) ? node.get(key, true) : undefined;
    if (inner === undefined || inner === null) return node;
    node = inner;
  }
  return node;
}

function sentence(issue: z.core.$ZodIssue): string {
  const path = issue.path.map(String).join('.');
  return path === '' ? issue.message : `${path}: ${issue.message}`;
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? text;
}

function refuse(faults: readonly string[], cause?: unknown): Failure {
  const errors = faults.map((message) => ({ path: 'PODGATE_TEMPLATES', message }));
  return new Failure('invalid_request', faults.join('\n'), { errors, cause });
}
