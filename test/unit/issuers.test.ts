import { expect, test } from 'vitest';
import { haveSeveralTenants, issuersSchema } from '../../gateway/auth/issuers.ts';

const callers = { kind: 'callers', issuer: 'a', tenant: 'acme', jwks_file: 'callers.json' };
const agents = { kind: 'agents', issuer: 'b', tenant: 'acme', jwks_file: 'agents.json' };
const parse = (...issuers: object[]) => issuersSchema.safeParse({ issuers });

test('trusted issuers have an audience and a longest lifetime of their kind unless they say otherwise', () => {
  const entries = issuersSchema.parse({
    issuers: [callers, { ...agents, audience: 'x', max_lifetime_seconds: 60 }],
  });
  expect(entries).toEqual([
    {
      kind: 'callers',
      trust: {
        issuer: 'a',
        audience: 'podgate',
        tenant: 'acme',
        tenantClaim: undefined,
        maxLifetimeSeconds: 7_776_000,
      },
      keys: { file: 'callers.json' },
    },
    {
      kind: 'agents',
      trust: { issuer: 'b', audience: 'x', tenant: 'acme', tenantClaim: undefined, maxLifetimeSeconds: 60 },
      keys: { file: 'agents.json' },
    },
  ]);
});

test('one issuer may make both kinds, each with keys of its own', () => {
  expect(parse(callers, { ...agents, issuer: 'a' }).success).toBe(true);
});

const wrong: [why: string, entries: object[], sentence: RegExp][] = [
  ['no entry', [], /./],
  ['neither tenant nor claim', [{ ...callers, tenant: undefined }], /exactly one of tenant and tenant_claim/],
  ['tenant and claim', [{ ...callers, tenant_claim: 'org' }], /exactly one of tenant and tenant_claim/],
  ['no keys', [{ ...callers, jwks_file: undefined }], /exactly one of jwks, jwks_file and jwks_url/],
  [
    'two sources of keys',
    [{ ...callers, jwks_url: 'https://x.example' }],
    /exactly one of jwks, jwks_file and jwks_url/,
  ],
  ['an unknown member', [{ ...callers, jwks_uri: 'https://x.example' }], /jwks_uri/],
  ['a tenant that is no name', [{ ...callers, tenant: 'a/b' }], /1 to 100/],
  ['an issuer with a space', [{ ...callers, issuer: 'a b' }], /visible ASCII/],
  ['a lifetime of seconds', [{ ...callers, max_lifetime_seconds: 59 }], /60/],
  ['the same issuer twice for one kind', [callers, { ...callers, jwks_file: 'x' }], /second entry/],
  [
    'one audience for both kinds',
    [callers, { ...agents, audience: 'podgate' }],
    /audience serves callers and agents/,
  ],
  [
    'one file for both kinds',
    [callers, { ...agents, jwks_file: 'callers.json' }],
    /jwks_file serves callers and agents/,
  ],
  [
    'one URL for both kinds',
    [
      { ...callers, jwks_file: undefined, jwks_url: 'https://x.example' },
      { ...agents, jwks_file: undefined, jwks_url: 'https://x.example' },
    ],
    /jwks_url serves callers and agents/,
  ],
  [
    'the same keys in line for both kinds',
    [
      { ...callers, jwks_file: undefined, jwks: { keys: [] } },
      { ...agents, jwks_file: undefined, jwks: { keys: [] } },
    ],
    /jwks serves callers and agents/,
  ],
  [
    'a private key in line',
    [{ ...callers, jwks_file: undefined, jwks: { keys: [{ d: 'x' }] } }],
    /private or secret/,
  ],
  ...[
    'http://id.example/',
    'ftp://x',
    'file:///etc/passwd',
    'https://a:b@x.example/',
    'x',
    'http://127.0.0.1.evil.example/',
  ].map((url): [string, object[], RegExp] => [
    `keys from ${url}`,
    [{ ...callers, jwks_file: undefined, jwks_url: url }],
    /https/,
  ]),
];
test.for(wrong)('%s is refused', ([, entries, sentence]) => {
  const parsed = parse(...entries);
  expect(parsed.success).toBe(false);
  expect(parsed.error?.message).toMatch(sentence);
});

test.for([
  ['one tenant', false, [callers, { ...callers, issuer: 'c' }, { ...agents, tenant: 'globex' }]],
  ['two tenants', true, [callers, { ...callers, issuer: 'c', tenant: 'globex' }]],
  ['whichever tenant they name', true, [{ ...callers, tenant: undefined, tenant_claim: 'org' }]],
] as const)('callers of %s are of several: %s', ([, several, entries]) => {
  expect(haveSeveralTenants(issuersSchema.parse({ issuers: entries }))).toBe(several);
});

test('keys may come over plain HTTP from this machine alone', () => {
  for (const url of [
    'http://127.0.0.1:9/jwks',
    'http://localhost/jwks',
    'http://[::1]:9/',
    'https://id.example/jwks',
  ]) {
    expect(parse({ ...callers, jwks_file: undefined, jwks_url: url }).success).toBe(true);
  }
});
