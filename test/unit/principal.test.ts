import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matchesName } from '../../shared/claims.ts';
import { digestPrincipal, escapePart, formatPrincipal, tenantName } from '../../shared/principal.ts';

const part = fc.oneof(
  fc.string({ minLength: 1, unit: 'grapheme' }),
  fc.array(fc.constantFrom('/', '%', '2', 'F', '.', 'a', ' '), { minLength: 1 }).map((all) => all.join('')),
);
const parts = fc.record({
  tenant: fc.constantFrom('a', 'acme', 'x.y_z-1'),
  sub: part,
  user: fc.option(part),
});

describe('a principal', () => {
  test('gives back the parts it was made of', () => {
    fc.assert(
      fc.property(parts, ({ tenant, sub, user }) => {
        const [first, ...rest] = formatPrincipal(tenant, sub, user).split('/');
        expect(first).toBe(tenant);
        expect(rest.map(decodeURIComponent)).toEqual(user === null ? [sub] : [sub, user]);
      }),
    );
  });

  test('is another one whenever a part differs', () => {
    fc.assert(
      fc.property(parts, parts, (a, b) => {
        const same = a.tenant === b.tenant && a.sub === b.sub && a.user === b.user;
        expect(formatPrincipal(a.tenant, a.sub, a.user) === formatPrincipal(b.tenant, b.sub, b.user)).toBe(
          same,
        );
      }),
    );
  });

  test('has as many parts as were given, none of them a step in a file system', () => {
    fc.assert(
      fc.property(parts, ({ tenant, sub, user }) => {
        const segments = formatPrincipal(tenant, sub, user).split('/');
        expect(segments).toHaveLength(user === null ? 2 : 3);
        for (const segment of segments) expect(segment).toMatch(/^(?!\.+$)[A-Za-z0-9._~@:%-]+$/);
      }),
    );
  });

  const pairs: [sub: string, user: string | null, principal: string][] = [
    ['alice', null, 'acme/alice'],
    ['alice', 'bob', 'acme/alice/bob'],
    ['alice/bob', null, 'acme/alice%2Fbob'],
    ['alice%2Fbob', null, 'acme/alice%252Fbob'],
    ['a@b.example', 'x y', 'acme/a@b.example/x%20y'],
    ['..', '.', 'acme/%2E%2E/%2E'],
    ['é', null, 'acme/%C3%A9'],
    ['\n\u0000', null, 'acme/%0A%00'],
  ];
  test.for(pairs)('of %j and %j is %s', ([sub, user, principal]) => {
    expect(formatPrincipal('acme', sub, user)).toBe(principal);
  });

  test('of half a character is refused', () => {
    expect(() => escapePart('\ud800')).toThrow(RangeError);
  });

  test('has a digest of 43 characters', async () => {
    expect(await digestPrincipal('acme/alice')).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(await digestPrincipal('acme/alice')).not.toBe(await digestPrincipal('acme/bob'));
  });
});

test('a tenant is a name that means nothing to a file system or a URL', () => {
  for (const good of ['a', 'acme', 'Org_2x', 'a.b-c', 'x'.repeat(100)])
    expect(tenantName.safeParse(good).success).toBe(true);
  for (const bad of ['', '.', '..', '-a', 'a/b', 'a b', 'é', 'x'.repeat(101), 'a\n']) {
    expect(tenantName.safeParse(bad).success).toBe(false);
  }
});

test('a pattern matches its name, or with * at its end whatever begins like it', () => {
  expect(matchesName(['lab'], 'lab')).toBe(true);
  expect(matchesName(['lab'], 'lab2')).toBe(false);
  expect(matchesName(['eu-*'], 'eu-west')).toBe(true);
  expect(matchesName(['eu-*'], 'eu')).toBe(false);
  expect(matchesName(['eu-*'], 'not-eu-west')).toBe(false);
  expect(matchesName(['*'], 'anything')).toBe(true);
  expect(matchesName([], 'lab')).toBe(false);
});
