import { describe, expect, test } from 'vitest';
import type { Finding } from '../../agent/canary/findings.ts';
import { createCluster } from '../../agent/cluster.ts';
import { fitAnnouncements, MAX_ANNOUNCEMENTS_BYTES } from '../../agent/fit-announcements.ts';
import { helloBody } from '../../agent/link/hello.ts';
import type { Link } from '../../agent/link/link.ts';
import { createSlots, GRANTS_PER_FRAME } from '../../agent/slots.ts';
import { fixedTemplates } from '../../agent/templates/template-source.ts';
import {
  type ClusterAnnouncement,
  fitSentence,
  MAX_CLUSTERS,
  MAX_SENTENCE_LENGTH,
} from '../../shared/announcement.ts';
import { encodeBody } from '../../shared/control.ts';
import { Failure } from '../../shared/errors.ts';
import { HEADER_BYTES } from '../../shared/frame.ts';
import { MAX_CONTROL_BYTES, MAX_HELLO_BYTES } from '../../shared/limits.ts';
import { FROM_AGENT, type FromAgent } from '../../shared/messages.ts';
import { parseTemplate } from '../../shared/template.ts';
import { createFakeBackend } from '../fakes/fake-backend.ts';
import { createFakeClock, type FakeClock } from '../fakes/fake-clock.ts';

const findings = Array.from({ length: 20 }, (_, index): Finding => {
  const state = index === 3 ? 'broken' : 'holds';
  return { name: `finding-${index}`, state, detail: 'x'.repeat(200) };
});

function cluster(templates: number, more: Partial<ClusterAnnouncement> = {}): ClusterAnnouncement {
  return {
    name: 'lab',
    backend: 'kubernetes',
    state: 'ready',
    detail: null,
    kubernetes_version: null,
    isolation: { checked_at: 1, findings },
    templates: Array.from({ length: templates }, (_, index) => ({
      name: `template-${index}`,
      hash: 'h',
      languages: ['python'],
      total: 1,
      reuse: 'single_use' as const,
      network: 'none' as const,
      max_memory_mb: 1,
      max_timeout_ms: 1,
      trouble: null,
      isolation: { checked_at: 1, state: 'broken' as const, findings },
    })),
    ...more,
  };
}
const fleet = (count: number, templates: number) =>
  Array.from({ length: count }, (_, index) => cluster(templates, { name: `cluster-${index}` }));
const size = (body: unknown) => Buffer.byteLength(JSON.stringify(body));
const named = (clusters: readonly { name: string }[]) => clusters.map(({ name }) => name);

describe('announcements', () => {
  test('stay as they are up to what a frame carries, and not one byte more', () => {
    const clusters = [cluster(2)];
    expect(fitAnnouncements(clusters, size(clusters))).toEqual({ announcements: clusters, leftOut: [] });
    expect(size(fitAnnouncements(clusters, size(clusters) - 1).announcements)).toBeLessThan(size(clusters));
  });

  test('lose words for what holds first, and what is broken last', () => {
    const { announcements } = fitAnnouncements([cluster(64)]);
    expect(size(announcements)).toBeLessThanOrEqual(MAX_ANNOUNCEMENTS_BYTES);
    const [fitted] = announcements;
    const broken = fitted?.isolation.findings.filter(({ state }) => state === 'broken');
    expect(broken).toEqual([findings[3]]);
    expect(fitted?.templates.map(({ isolation }) => isolation?.state)).toEqual(Array(64).fill('broken'));
  });

  test('of all templates that an agent may have fit into one frame', () => {
    const { announcements, leftOut } = fitAnnouncements([cluster(64), cluster(40, { name: 'two' })]);
    const grants = [{ cluster: 'lab', template: 't', granted: 1 }];
    expect(FROM_AGENT.SLOTS.safeParse({ grants, clusters: announcements }).success).toBe(true);
    expect(size({ grants, clusters: announcements })).toBeLessThanOrEqual(MAX_CONTROL_BYTES);
    expect(leftOut).toEqual([]);
  });

  test('lose details before a cluster', () => {
    const clusters = fleet(100, 1).map((one) => ({ ...one, detail: 'd'.repeat(1_000) }));
    const { announcements, leftOut } = fitAnnouncements(clusters);
    expect([named(announcements), leftOut]).toEqual([named(clusters), []]);
    expect(announcements.every(({ detail }) => detail === null)).toBe(true);
    expect(size(announcements)).toBeLessThanOrEqual(MAX_ANNOUNCEMENTS_BYTES);
  });

  test.for([
    [500, 1],
    [80, 5],
    [MAX_CLUSTERS + 1, 0],
  ] as const)('of %i clusters with %i templates are those of the first that fit', ([count, templates]) => {
    const clusters = fleet(count, templates);
    const { announcements, leftOut } = fitAnnouncements(clusters);
    expect(FROM_AGENT.SLOTS.safeParse({ grants: [], clusters: announcements }).success).toBe(true);
    expect(size({ grants: [], clusters: announcements })).toBeLessThanOrEqual(MAX_CONTROL_BYTES);
    expect([...named(announcements), ...leftOut]).toEqual(named(clusters));
    expect(announcements.length).toBeGreaterThan(count / 10);
    expect(leftOut).not.toEqual([]);
  });
});

test('HELLO names as many clusters as it has room for', () => {
  const proof = { token: 't'.repeat(8_192), time: 1, signature: 's'.repeat(128) };
  const clusters = fleet(500, 0).map(({ name }) => name.padEnd(63, '-'));
  const peers = { known: () => Array.from({ length: 64 }, (_, index) => String(index).padEnd(36, 'x')) };
  const own = { instance: 'i'.repeat(36), software: 'podgate/test', peers } as never;
  const hello = helloBody(Object.assign(own, { clusters }), proof);
  expect(FROM_AGENT.HELLO.safeParse(hello).error).toBeUndefined();
  const bytes = HEADER_BYTES + encodeBody(hello).byteLength;
  expect(bytes).toBeLessThanOrEqual(MAX_HELLO_BYTES);
  expect(bytes).toBeGreaterThan(MAX_HELLO_BYTES - 67);
  const short = helloBody(Object.assign(own, { clusters: clusters.map((_, index) => `${index}`) }), proof);
  expect(short.clusters).toHaveLength(MAX_CLUSTERS);
});

describe('a sentence', () => {
  test.for([MAX_SENTENCE_LENGTH - 1, MAX_SENTENCE_LENGTH])('of %i characters stays as it is', (length) => {
    expect(fitSentence('x'.repeat(length))).toBe('x'.repeat(length));
  });

  test('that is longer is cut between two characters', () => {
    const cut = fitSentence('x'.repeat(MAX_SENTENCE_LENGTH + 1));
    expect(cut).toBe(`${'x'.repeat(MAX_SENTENCE_LENGTH - 1)}…`);
    const pairs = fitSentence('💥'.repeat(MAX_SENTENCE_LENGTH));
    expect([pairs.length, pairs.isWellFormed()]).toEqual([MAX_SENTENCE_LENGTH - 1, true]);
  });
});

/** A cluster with one template, in trouble where there is a detail. */
async function openCluster(clock: FakeClock, detail: string, name = 'here') {
  const backend = createFakeBackend();
  if (detail !== '') backend.failure = new Failure('image_error', detail);
  const longest = 't'.repeat(63);
  const template = await parseTemplate({ name: longest, languages: ['python'], pool: { min: 1, max: 1 } });
  return createCluster({
    name,
    backend,
    templates: fixedTemplates(new Map([[longest, template]])),
    facts: () => ({ kubernetes_version: null, unavailable: detail || null, impaired: null }),
    clock,
    random: () => 0.5,
    log: () => {},
    onChange: () => {},
  });
}

test.for([MAX_SENTENCE_LENGTH, MAX_SENTENCE_LENGTH + 1])(
  'trouble of %i characters is announced in a frame that a gateway takes',
  async (length) => {
    const clock = createFakeClock();
    const cluster = await openCluster(clock, 'ä'.repeat(length));
    await clock.settle();
    const announced = cluster.announcement();
    expect(FROM_AGENT.SLOTS.safeParse({ grants: [], clusters: [announced] }).error).toBeUndefined();
    const details = [announced.detail, announced.templates[0]?.trouble?.detail];
    expect(details.map((detail) => detail?.length)).toEqual([MAX_SENTENCE_LENGTH, MAX_SENTENCE_LENGTH]);
  },
);

test('500 clusters are told in frames that a gateway takes, and what is left out is said once', async () => {
  const clock = createFakeClock();
  const names = Array.from({ length: 500 }, (_, index) => `${index}`.padStart(63, 'c'));
  const clusters = await Promise.all(
    names.map((name, index) => openCluster(clock, index % 5 === 0 ? 'Gone.' : '', name)),
  );
  const sent: FromAgent['SLOTS'][] = [];
  const logged: unknown[][] = [];
  const slots = createSlots(new Map(clusters.map((each) => [each.name, each])), clock, (event, fields) =>
    logged.push([event, fields]),
  );
  const link = { serverId: 'replica', send: (_name: 'SLOTS', body: FromAgent['SLOTS']) => sent.push(body) };
  await clock.settle();
  slots.joined(link as unknown as Link);
  await clock.advance(1_000);
  slots.changed(names[0] as string);
  await clock.advance(1_000);
  for (const body of sent) {
    expect(FROM_AGENT.SLOTS.safeParse(body).error).toBeUndefined();
    expect(encodeBody(body).byteLength).toBeLessThanOrEqual(MAX_CONTROL_BYTES);
  }
  const granted = sent.map(({ grants }) => grants.length).filter((length) => length > 0);
  expect(granted).toEqual([GRANTS_PER_FRAME, 400 - GRANTS_PER_FRAME]);
  const told = named(sent.find((body) => body.clusters)?.clusters ?? []);
  expect(logged).toEqual([['clusters_not_announced', { clusters: names.slice(told.length) }]]);
});
