import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';

type Row = readonly [path: string, value: unknown];

const read = (file: string) => readFileSync(new URL(`../../manifests/${file}`, import.meta.url), 'utf8');

// biome-ignore lint/suspicious/noExplicitAny: whatever a manifest holds
function objects(file: string): any[] {
  return parseAllDocuments(read(file)).map((each) => each.toJS());
}

/** `a/b/0`: a member's name may hold a slash, which is written `~`. */
function at(value: unknown, path: string): unknown {
  return path
    .split('/')
    .reduce<unknown>(
      (inner, key) => (inner as Record<string, unknown> | undefined)?.[key.replaceAll('~', '/')],
      value,
    );
}

function holds(file: string, rows: readonly Row[]): void {
  const [object] = objects(file);
  test.for(rows)(`${file} has %s = %j`, ([path, value]) => {
    expect(at(object, path)).toEqual(value);
  });
}

const nginx = (name: string) => `metadata/annotations/nginx.ingress.kubernetes.io~${name}`;

describe('the example of an Ingress', () => {
  holds('gateway/ingress-example.yaml', [
    // How large a body may be the gateway says, in its own form.
    [nginx('proxy-body-size'), '0'],
    [nginx('proxy-request-buffering'), 'off'],
    [nginx('proxy-buffering'), 'off'],
    [nginx('proxy-read-timeout'), '3600'],
    [nginx('proxy-send-timeout'), '3600'],
  ]);
});
