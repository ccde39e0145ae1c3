import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { createMetrics } from '../../agent/metrics.ts';
import { VARIABLES as AGENT_VARIABLES } from '../../agent/variables.ts';
import { GATEWAY_VARIABLE_NAMES, readGatewayConfig } from '../../gateway/node/config.ts';
import { createGatewayMetrics } from '../../gateway/node/metrics.ts';

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const sources = (folder: string) =>
  readdirSync(new URL(`../../${folder}/`, import.meta.url), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => read(`${folder}/${path}`))
    .join('\n');
const pages = readdirSync(new URL('../../docs/', import.meta.url))
  .filter((name) => name.endsWith('.md'))
  .map((name) => read(`docs/${name}`))
  .join('\n');
const explained = new Set([...pages.matchAll(/`(\w+)`/g)].map(([, name]) => name));
const page = read('docs/operating.md');
const named = (heading: string) => {
  const [, rows = ''] = page.split(`| ${heading} |`);
  const table = rows.split('\n\n', 1)[0] as string;
  return [...table.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell]) =>
    [...(cell as string).matchAll(/`(\w+)`/g)].map(([, name]) => name as string),
  );
};
const defaults = new Map(
  [...page.matchAll(/^\| `([A-Z_]+)` \| \w+ \| (\S*) \|/gm)].map(([, name, value]) => [name, value]),
);
const gateway = readGatewayConfig({ environment: { PODGATE_ISSUERS: 'issuers.json' } });

describe('docs', () => {
  test.each([...GATEWAY_VARIABLE_NAMES, ...Object.keys(AGENT_VARIABLES)])('explain %s on a page', (name) => {
    expect([name, explained.has(name)]).toEqual([name, true]);
  });
});

describe('docs/operating.md', () => {
  test('has the defaults that a gateway and an agent have', () => {
    const { host, port, metrics, drainMs, drainDelayMs, files } = gateway;
    const agent = (
      name: 'HOST' | 'PODGATE_AGENT_PORT' | 'PODGATE_DRAIN_MS' | 'PODGATE_ALLOW_REMOTE' | 'EXECUTOR_BACKEND',
    ) => String(AGENT_VARIABLES[name].parse(undefined));
    expect(Object.fromEntries(defaults)).toMatchObject({
      HOST: host,
      PORT: String(port),
      PODGATE_METRICS_PORT: String(metrics?.port),
      PODGATE_DRAIN_MS: String(drainMs),
      PODGATE_DRAIN_DELAY_MS: String(drainDelayMs),
      FILE_STORAGE_DIR: files?.directory,
      PODGATE_REPLICAS: String(gateway.gateway.replicas),
      PODGATE_AGENT_PORT: agent('PODGATE_AGENT_PORT'),
      EXECUTOR_BACKEND: agent('EXECUTOR_BACKEND'),
      PODGATE_ALLOW_REMOTE: agent('PODGATE_ALLOW_REMOTE'),
    });
    expect([agent('HOST'), agent('PODGATE_DRAIN_MS')]).toEqual([host, String(drainMs)]);
  });

  test('names events that there are', () => {
    const code = `${sources('gateway')}\n${sources('agent')}`;
    const names = named('event | of');
    expect(names).toHaveLength(10);
    expect(names.filter((name) => !code.includes(`'${name}'`))).toEqual([]);
  });

  test('names metrics that there are', async () => {
    const none = { links: 0, pendingLinks: 0, running: 0, queued: 0, requestBytes: 0, outputBytes: 0 };
    const idle = { clusters: () => [], links: () => [], running: () => 0, sessionsIn: () => 0 };
    const shown = [
      createGatewayMetrics(() => ({ version: '', draining: false, ...none })).render(),
      createMetrics(idle).render(),
    ];
    const text = (await Promise.all(shown)).join('\n');
    const names = named('metric | look when');
    expect(names).toHaveLength(6);
    expect(names.filter((name) => !text.includes(`# HELP ${name} `))).toEqual([]);
  });
});
