import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseDenyList } from '../../gateway/auth/deny-list.ts';
import { DEFAULT_MAX_LIFETIME_SECONDS, issuersSchema } from '../../gateway/auth/issuers.ts';
import { callerClaims, DEFAULT_AUDIENCE, LIMIT_NAMES, SCOPES, TYP } from '../../shared/claims.ts';

const text = readFileSync(new URL('../../docs/keys.md', import.meta.url), 'utf8');
const [issuers = '', claims = '', denied = ''] = [...text.matchAll(/```json\n([\s\S]*?)```/g)].map(
  ([, json]) => json,
);

test('docs/keys.md shows issuers that a gateway takes, with their defaults', () => {
  const [callers, agents] = issuersSchema.parse(JSON.parse(issuers));
  expect([callers?.trust.audience, agents?.trust.audience]).toEqual(Object.values(DEFAULT_AUDIENCE));
  for (const seconds of Object.values(DEFAULT_MAX_LIFETIME_SECONDS))
    expect(text).toContain(seconds.toLocaleString('en-US'));
});

test('docs/keys.md shows a key with every scope and ceiling, and its type', () => {
  const key = callerClaims.strict().parse(JSON.parse(claims));
  expect(key.scope?.split(' ')).toEqual(SCOPES);
  expect(Object.keys(key.limits ?? {})).toEqual(LIMIT_NAMES);
  expect(text).toContain(`"typ": "${TYP.callers}"`);
});

test('docs/keys.md shows a deny-list that denies', () => {
  expect(parseDenyList(denied)).toEqual({
    jti: ['8f0c2a'],
    sub: [{ issuer: 'podgate:callers', sub: 'mallory' }],
  });
});
