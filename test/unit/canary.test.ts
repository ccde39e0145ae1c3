import { describe, expect, test } from 'vitest';
import { MAX_BOARD_BYTES } from '../../agent/backends/backend.ts';
import { readBoard, writeBoard } from '../../agent/canary/board-text.ts';
import {
  brokenPromises,
  type Finding,
  isPromised,
  MAX_FINDINGS,
  ofSandbox,
  parseFindings,
  worst,
} from '../../agent/canary/findings.ts';
import { MAX_WHEREABOUTS, parsePeer } from '../../agent/canary/peer.ts';
import { DEFAULT_TARGETS, locateTargets, MAX_TARGETS, parseTargets } from '../../agent/canary/targets.ts';
import { nextVerdict, type Verdict } from '../../agent/canary/verdict.ts';
import { parseTemplate } from '../../shared/template.ts';

const finding = (name: string, state: Finding['state'], detail = 'x'.repeat(200)): Finding => ({
  name,
  state,
  detail,
});

describe('a verdict', () => {
  const pending: Verdict = { phase: 'pending' };
  const proven: Verdict = { phase: 'proven', checkedAtMs: 1 };
  const broken: Verdict = { phase: 'refused', why: 'broken', detail: 'b' };
  const untested: Verdict = { phase: 'refused', why: 'untested', detail: 'u' };
  const failed = { kind: 'failed', detail: 'f' } as const;

  test.for([pending, proven, broken, untested])('of %j is proven by a canary that holds', (verdict) => {
    expect(nextVerdict(verdict, { kind: 'held', atMs: 7 })).toEqual({ phase: 'proven', checkedAtMs: 7 });
  });

  test.for([pending, proven, broken, untested])('of %j is refused by one that finds it broken', (verdict) => {
    expect(nextVerdict(verdict, { kind: 'broke', detail: 'd' })).toEqual({
      phase: 'refused',
      why: 'broken',
      detail: 'd',
    });
  });

  test('is never proven by a canary that comes to no end, and refused where nothing was proven before', () => {
    expect(nextVerdict(pending, failed)).toMatchObject({ phase: 'refused', why: 'untested' });
    for (const verdict of [proven, broken, untested]) expect(nextVerdict(verdict, failed)).toBe(verdict);
  });

  test('that is too old proves nothing any more', () => {
    expect(nextVerdict(proven, { kind: 'aged' })).toMatchObject({ phase: 'refused', why: 'untested' });
    for (const verdict of [pending, broken, untested])
      expect(nextVerdict(verdict, { kind: 'aged' })).toBe(verdict);
  });
});

describe('what a probe prints', () => {
  const row = (name: string) => [name, 'holds', ''];

  test('is believed only in its form', () => {
    expect(parseFindings(JSON.stringify({ findings: [row('a.b')] }))).toEqual([finding('a.b', 'holds', '')]);
    for (const text of [
      '',
      'null',
      '{}',
      '{"findings": [["a", "fine", ""]]}',
      '{"findings": [["a b", "holds", ""]]}',
      '{"findings": [["a", "holds"]]}',
      JSON.stringify({ findings: [['a', 'holds', 'x'.repeat(241)]] }),
    ])
      expect(parseFindings(text), text).toBeUndefined();
  });

  test('has so many findings and no more', () => {
    const rows = Array.from({ length: MAX_FINDINGS }, () => row('a'));
    expect(parseFindings(JSON.stringify({ findings: rows }))).toHaveLength(MAX_FINDINGS);
    expect(parseFindings(JSON.stringify({ findings: [...rows, row('a')] }))).toBeUndefined();
  });

  test('leaves nothing out unnoticed', async () => {
    const template = await parseTemplate({ name: 'plain' });
    const found = ofSandbox([finding('files.write', 'holds')], template);
    expect(found.find(({ name }) => name === 'files.write')?.state).toBe('holds');
    expect(found.find(({ name }) => name === 'network.sockets')?.state).toBe('unknown');
    expect(found.find(({ name }) => name === 'privilege.user')?.state).toBe('unknown');
    const asked = ofSandbox([finding('network.dns', 'holds')], template, ['dns', 'api']);
    expect(asked.find(({ name }) => name === 'network.dns')?.state).toBe('holds');
    expect(asked.find(({ name }) => name === 'network.api')?.state).toBe('unknown');
  });
});

describe('what a peer prints', () => {
  const nowhere = { nameserver: [], apiserver: [], node: [] };
  const peer = { mark: 'mark', addresses: ['127.0.0.9'], port: 1, whereabouts: nowhere };
  const told = (node: unknown) => JSON.stringify({ ...peer, whereabouts: { ...nowhere, node } });

  test('is believed where it names addresses, so many and no more', () => {
    const most = Array.from({ length: MAX_WHEREABOUTS }, (_, index) => `127.0.0.${index + 1}`);
    expect(parsePeer(told(most)).whereabouts.node).toEqual(most);
    expect(parsePeer(told(['::1'])).whereabouts.node).toEqual(['::1']);
    expect(() => parsePeer(told([...most, '127.0.0.9']))).toThrow();
  });

  test.for(['localhost', '127.0.0.1:22', '127.0.0.1/8', '[::1]', 'fe80::1%lo', '', 7])(
    'is refused whole for %j in place of an address',
    (place) => {
      expect(() => parsePeer(told([place]))).toThrow();
    },
  );
});

describe('a promise', () => {
  test('is what the template says: its filter, and the cluster’s network where it is required', async () => {
    const plain = await parseTemplate({ name: 'plain' });
    const strict = await parseTemplate({ name: 'strict', require: ['seccomp', 'network_policy'] });
    const open = await parseTemplate({ name: 'open', require: [] });
    const policy = finding('policy.internet', 'broken');
    const sockets = finding('network.sockets', 'broken');
    expect(isPromised(plain, policy)).toBe(false);
    expect(isPromised(strict, policy)).toBe(true);
    expect(isPromised(plain, sockets)).toBe(true);
    expect(isPromised(open, sockets)).toBe(false);
    const filter = finding('privilege.seccomp', 'broken');
    expect([isPromised(plain, filter), isPromised(open, filter)]).toEqual([true, false]);
    expect(isPromised(open, finding('files.token', 'broken'))).toBe(true);
    expect(brokenPromises(plain, [policy, sockets])).toEqual([sockets]);
  });

  test('of no network is none of a template with the cluster’s', async () => {
    const template = await parseTemplate({ name: 'open', network: 'cluster' });
    const names = ofSandbox([finding('network.sockets', 'broken')], template).map(({ name }) => name);
    expect(names).not.toContain('network.sockets');
    expect(names).toContain('files.write');
  });

  test('is as good as the worst that is known of it', () => {
    expect(worst([])).toBe('unknown');
    expect(worst([finding('a', 'holds')])).toBe('holds');
    expect(worst([finding('a', 'holds'), finding('b', 'unknown')])).toBe('unknown');
    expect(worst([finding('a', 'unknown'), finding('b', 'broken')])).toBe('broken');
  });
});

describe('targets', () => {
  test('are addresses and ports by kind, or none', () => {
    expect(parseTargets(['dns=127.0.0.1:53', 'dns=[::1]:53', 'node=node:22'])).toEqual({
      dns: ['127.0.0.1:53', '[::1]:53'],
      node: ['node:22'],
    });
    expect(parseTargets(['none'])).toEqual({});
  });

  test.for([
    'dns',
    'dns=127.0.0.1',
    'dns=127.0.0.1:0',
    'dns=127.0.0.1:65536',
    'dns=example.com:53',
    'dns=::1:53',
    'dns=[127.0.0.1]:53',
    'router=127.0.0.1:53',
    'none=127.0.0.1:1',
  ])('such as %s are refused', (text) => {
    expect(parseTargets([text])).toContain('ADDRESS:PORT');
  });

  test('are so many and no more', () => {
    const texts = Array.from({ length: MAX_TARGETS }, (_, index) => `node=127.0.0.1:${index + 1}`);
    expect(parseTargets(texts)).toMatchObject({ node: expect.any(Array) });
    expect(parseTargets([...texts, 'node=127.0.0.1:9'])).toContain(`${MAX_TARGETS}`);
  });

  test('are addresses alone for who is not told what words stand for', () => {
    const whereabouts = { nameserver: ['127.0.0.1', '::1'], apiserver: ['127.0.0.2'], node: [] };
    const targets = { dns: ['nameserver:53', '127.0.0.9:53'], api: ['apiserver:443'], node: ['node:22'] };
    expect(locateTargets(targets, whereabouts)).toEqual({
      dns: ['127.0.0.1:53', '[::1]:53', '127.0.0.9:53'],
      api: ['127.0.0.2:443'],
    });
  });

  test('of a local sandbox are none: its network has nothing in it', () => {
    expect(DEFAULT_TARGETS.local).toEqual({});
    for (const kind of ['kubernetes', 'docker'] as const) {
      const texts = Object.entries(DEFAULT_TARGETS[kind]).flatMap(([name, all]) =>
        all.map((each) => `${name}=${each}`),
      );
      expect(parseTargets(texts)).toEqual(DEFAULT_TARGETS[kind]);
    }
  });
});

describe('the board', () => {
  const report = { atMs: 5, findings: [finding('a', 'holds'), finding('b', 'broken')] };

  test('is read as it was written, without words for what holds', () => {
    const read = readBoard(writeBoard([['hash', report]]));
    expect(read.get('hash')).toEqual({
      atMs: 5,
      findings: [finding('a', 'holds', ''), finding('b', 'broken')],
    });
  });

  test('holds as much as fits: who misses something looks for itself', () => {
    const long = {
      atMs: 5,
      findings: Array.from({ length: 24 }, (_, index) => finding(`f${index}`, 'broken')),
    };
    const text = writeBoard(Array.from({ length: 64 }, (_, index) => [`hash-${index}`, long] as const));
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MAX_BOARD_BYTES);
    const kept = readBoard(text);
    expect(kept.size).toBeGreaterThan(8);
    expect(kept.size).toBeLessThan(64);
    const one = Buffer.byteLength(JSON.stringify({ x: long }));
    expect(Buffer.byteLength(text)).toBeGreaterThan(MAX_BOARD_BYTES - one - 16);
  });

  test.for(['', '[]', '{"hash": 1}', '{"hash": {"at": "x", "findings": []}}', '{"hash": {'])(
    'that says %s says nothing',
    (text) => {
      expect(readBoard(text).size).toBe(0);
    },
  );
});
