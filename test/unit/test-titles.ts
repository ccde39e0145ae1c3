import { parseSync } from 'vite';

type Node = { type: string } & Record<string, unknown>;

/** What makes tests; `kept` is what contracts call the tests of an implementation that is there. */
const MAKERS = /^(test|it|kept|describe\w*|\w+Contract)$/;
const PUT_OFF = ['skip', 'todo'];

/**
 * The names that a file of tests gives: titles of tests and suites, first cells of their tables, and other such files that
 * it runs. Nothing of comments, nor of what is skipped whatever happens.
 */
export function titlesOf(path: string, text: string): string[] {
  const { program, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path} does not parse: ${errors[0]?.message}`);
  const titles: string[] = [];
  visit(program, (node) => {
    if (node.type === 'ImportExpression') titles.push(...textOf(node.source));
    if (node.type === 'ArrayExpression') titles.push(...rowsOf(node).flatMap(([first]) => textOf(first)));
    if (node.type !== 'CallExpression') return true;
    const [maker = '', ...members] = pathOf(node.callee);
    if (!MAKERS.test(maker)) return true;
    if (members.some((each) => PUT_OFF.includes(each))) return false;
    titles.push(...textOf((node.arguments as unknown[])[0]));
    return true;
  });
  return titles;
}

/** Goes on below a node where `enter` says so. */
function visit(value: unknown, enter: (node: Node) => boolean): void {
  if (typeof value !== 'object' || value === null) return;
  if (isNode(value) && !enter(value)) return;
  for (const child of Object.values(value)) visit(child, enter);
}

function isNode(value: object): value is Node {
  return 'type' in value && typeof value.type === 'string';
}

/** `['test', 'for']` of `test.for(table)`, and of what that returns. */
function pathOf(callee: unknown): string[] {
  const node = callee as Node;
  if (node.type === 'Identifier') return [String(node.name)];
  if (node.type === 'CallExpression') return pathOf(node.callee);
  if (node.type === 'MemberExpression') return [...pathOf(node.object), ...pathOf(node.property)];
  return [];
}

function rowsOf({ elements }: Node): unknown[][] {
  const rows = (elements as (Node | null)[]).filter((each) => each?.type === 'ArrayExpression');
  return rows.map((row) => row?.elements as unknown[]);
}

function textOf(value: unknown): string[] {
  const node = value as Node | null | undefined;
  if (node?.type === 'Literal' && typeof node.value === 'string') return [node.value];
  if (node?.type !== 'TemplateLiteral') return [];
  return [(node.quasis as { value: { cooked: string } }[]).map((each) => each.value.cooked).join('…')];
}
