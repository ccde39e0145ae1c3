import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runAgentsCommand } from '../../cli/agents.ts';
import { addToDenyFile } from '../../cli/deny-file.ts';
import { UsageError } from '../../cli/io.ts';
import { hasKeyFolder, initKeyFolder, KEY_FILES } from '../../cli/key-folder.ts';
import { formatDuration, parseDuration } from '../../cli/key-options.ts';
import { runKeysCommand } from '../../cli/keys.ts';
import { createAuthenticator } from '../../gateway/auth/authenticator.ts';
import { createDocumentReader } from '../../gateway/node/documents.ts';
import { readIssuers, readKeyring } from '../../gateway/node/key-files.ts';
import { parseCredential } from '../../shared/credential.ts';
import { openId, sealId } from '../../shared/ids.ts';
import { generateKeyPair, importSigningKey, toPublicJwk } from '../../shared/key-set.ts';
import { readToken } from '../../shared/keys.ts';
import { digestPrincipal } from '../../shared/principal.ts';
import { signProof } from '../../shared/proof.ts';
import { bearer, ORIGIN } from '../fakes/auth-bench.ts';
import { NOW, NOW_MS } from '../fakes/key-issuer.ts';

let parent: string;
let dir: string;

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'podgate-keys-'));
  dir = join(parent, 'keys');
});
afterEach(() => rmSync(parent, { recursive: true }));

type Command = typeof runKeysCommand;

async function run(command: Command, args: string[], stdin = '') {
  const written = { stdout: '', stderr: '' };
  const sink = (name: keyof typeof written) =>
    new Writable({
      write(chunk, _, done) {
        written[name] += chunk;
        done();
      },
    });
  const io = {
    stdin: Readable.from([Buffer.from(stdin)]),
    stdout: sink('stdout'),
    stderr: sink('stderr'),
    signal: new AbortController().signal,
  };
  const status = await command([...args, ...(args.length > 0 ? ['--dir', dir] : [])], io, () => NOW_MS);
  return { status, ...written };
}

const keys = (args: string, stdin?: string) => run(runKeysCommand, args.split(' ').filter(Boolean), stdin);
const agents = (args: string) => run(runAgentsCommand, args.split(' ').filter(Boolean));
const read = (name: keyof typeof KEY_FILES) => readFileSync(join(dir, KEY_FILES[name]), 'utf8');
const contents = () => Object.values(KEY_FILES).map((name) => readFileSync(join(dir, name), 'utf8'));

/** A gateway's authenticator over the folder, as `podgate gateway` sets it up. */
async function openGateway() {
  const authenticator = createAuthenticator({
    issuers: await readIssuers(join(dir, KEY_FILES.issuers)),
    denyList: { file: join(dir, KEY_FILES.deny) },
    readDocument: createDocumentReader(),
    origins: [ORIGIN],
    now: () => NOW_MS,
    elapsed: () => NOW_MS,
    sleep: () => Promise.reject(new Error('no sleeping here')),
    log: () => {},
  });
  await authenticator.refresh();
  return authenticator;
}

describe('podgate keys init', () => {
  test('makes a folder for its owner alone, and private files for nobody else', async () => {
    expect(await hasKeyFolder(dir)).toBe(false);
    expect((await keys('init')).status).toBe(0);
    expect(await hasKeyFolder(dir)).toBe(true);
    const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
    expect(mode(dir)).toBe('700');
    expect(Object.fromEntries(readdirSync(dir).map((name) => [name, mode(join(dir, name))]))).toEqual({
      '.gitignore': '644',
      'agents.jwks.json': '644',
      'agents.private.json': '600',
      'callers.jwks.json': '644',
      'callers.private.json': '600',
      'deny.json': '600',
      'ids.json': '600',
      'issuers.json': '644',
    });
    for (const name of ['callersPublic', 'agentsPublic', 'issuers'] as const)
      expect(read(name)).not.toContain('"d"');
    expect(readFileSync(join(dir, '.gitignore'), 'utf8')).toBe('*\n');
  });

  test('says what comes next for this folder, as a shell takes it', async () => {
    expect((await keys('init')).stdout).toContain(`Next: podgate keys create --sub NAME --dir ${dir}\n`);
    expect((await keys('create --sub a')).stderr).toMatch(new RegExp(`keys revoke \\S+ --dir ${dir}\n`));
    expect((await agents('token --cluster lab')).stderr).toMatch(new RegExp(`revoke \\S+ --dir ${dir}\n`));
    dir = join(parent, "it's mine");
    expect((await keys('init')).stdout).toContain(`--dir '${parent}/it'\\''s mine'\n`);
  });

  test('never overwrites a key, whichever is left, unless told', async () => {
    await keys('init');
    const before = contents();
    await expect(keys('init')).rejects.toThrow(/--force/);
    for (const name of Object.values(KEY_FILES).slice(1)) rmSync(join(dir, name));
    await expect(keys('init')).rejects.toThrow(/issuers\.json/);
    expect(readFileSync(join(dir, KEY_FILES.issuers), 'utf8')).toBe(before[0]);
  });

  test('of two that start at once one loses, and the keys that are there fit together', async () => {
    const both = await Promise.allSettled([initKeyFolder(dir), initKeyFolder(dir)]);
    expect(both.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(1);
    for (const outcome of both)
      if (outcome.status === 'rejected') expect(outcome.reason).toBeInstanceOf(UsageError);
  });

  test('has every file or none at any instant, so that whoever is killed on the way leaves no half', async () => {
    const made = initKeyFolder(dir);
    const seen = new Set<number>();
    for (let over = false; !over; ) {
      seen.add(existsSync(dir) ? readdirSync(dir).length : 0);
      over = await Promise.race([made.then(() => true), setImmediate(false)]);
    }
    expect([...seen].filter((files) => files > 0 && files < readdirSync(dir).length)).toEqual([]);
    expect(readdirSync(parent)).toEqual([basename(dir)]);
  });

  test('with --force has all old keys or all new ones at any instant, so that whoever is killed on the way mixes none', async () => {
    await keys('init');
    await keys('revoke old-id');
    const names = Object.values(KEY_FILES).filter((name) => name !== KEY_FILES.deny);
    const look = () => names.map((name) => readFileSync(join(dir, name), 'utf8')).join('');
    const before = look();
    const replaced = initKeyFolder(dir, { force: true });
    const seen = new Set<string>();
    for (let over = false; !over; ) {
      // Reading takes more than an instant: what is there twice was there at one.
      const found = look();
      if (look() === found) seen.add(found);
      over = await Promise.race([replaced.then(() => true), setImmediate(false)]);
    }
    expect(look()).not.toBe(before);
    expect([...seen].filter((found) => found !== before && found !== look())).toEqual([]);
    expect(readdirSync(dir).sort()).toEqual(['.gitignore', ...Object.values(KEY_FILES)].sort());
    expect(names.filter((name) => lstatSync(join(dir, name)).isSymbolicLink())).toEqual([]);
  });

  test('with --force goes on where another was killed on the way', async () => {
    await keys('init');
    for (const [reached, names] of [
      ['.through.old', ['callers.jwks.json']],
      ['.through.new', Object.values(KEY_FILES).slice(0, -1)],
    ] as const) {
      mkdirSync(join(dir, reached));
      for (const name of names) {
        renameSync(join(dir, name), join(dir, reached, name));
        symlinkSync(`.through/${name}`, join(dir, name));
      }
      symlinkSync(reached, join(dir, '.through'));
      await openGateway();
      const before = read('callersPublic');
      await keys('init --force');
      expect(read('callersPublic')).not.toBe(before);
      expect(readdirSync(dir).sort()).toEqual(['.gitignore', ...Object.values(KEY_FILES)].sort());
    }
  });

  test('with --force makes other keys and keeps what was revoked', async () => {
    await keys('init');
    const before = read('callersPrivate');
    const old = (await keys('create --sub alice')).stdout.trim();
    await keys('revoke old-id');
    await keys('init --force --tenant umbrella');
    expect(read('callersPrivate')).not.toBe(before);
    expect(read('deny')).toContain('old-id');
    const gateway = await openGateway();
    await expect(gateway.authenticate(bearer(old))).rejects.toMatchObject({ code: 'unauthorized' });
    const fresh = (await keys('create --sub alice')).stdout.trim();
    expect(await gateway.authenticate(bearer(fresh))).toMatchObject({ principal: 'umbrella/alice' });
  });

  test('makes a keyring that seals ids', async () => {
    await keys('init');
    const ring = await readKeyring(join(dir, KEY_FILES.ids));
    const principalDigest = await digestPrincipal('default/a');
    const parts = {
      kind: 's',
      tenant: 'default',
      principalDigest,
      cluster: 'lab',
      instance: 'instance-1',
    } as const;
    expect(await openId(ring, 's', await sealId(ring, parts))).toEqual(parts);
  });

  test('refuses a tenant that is no name', async () => {
    await expect(keys('init --tenant a/b')).rejects.toThrow(UsageError);
    expect(await hasKeyFolder(dir)).toBe(false);
  });
});

describe('podgate keys create', () => {
  beforeEach(() => initKeyFolder(dir));

  test('prints the key alone, which a gateway accepts as it was asked for', async () => {
    const { stdout, stderr } = await keys(
      'create --sub alice --scope execute,clusters --clusters lab,eu-* --default-cluster eu-1 --templates py* ' +
        '--limit concurrency=4 --limit requests_per_minute=600 --expires 2h',
    );
    expect(stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    expect(await (await openGateway()).authenticate(bearer(stdout.trim()))).toMatchObject({
      principal: 'default/alice',
      scopes: ['execute', 'clusters'],
      clusters: ['lab', 'eu-*'],
      defaultCluster: 'eu-1',
      templates: ['py*'],
      limits: { concurrency: 4, requests_per_minute: 600, timeout_ms: null },
      expiresAtMs: (NOW + 7200 + 30) * 1000,
    });
    expect(stderr).toContain('podgate keys revoke k');
    expect(stderr).not.toContain(stdout.trim());
  });

  test('without options makes a key for thirty days that may execute and keep files and sessions', async () => {
    const caller = await (await openGateway()).authenticate(
      bearer((await keys('create --sub a')).stdout.trim()),
    );
    expect(caller.scopes).toEqual(['execute', 'files', 'sessions']);
    expect(caller.expiresAtMs).toBe((NOW + 30 * 86_400 + 30) * 1000);
  });

  const faults: [args: string, sentence: RegExp][] = [
    ['create', /--sub NAME/],
    ['create --sub', /--help/],
    ['create --sub alice bob', /--help/],
    ['create --sub alice --nonsense', /--help/],
    [`create --sub ${'x'.repeat(513)}`, /512/],
    ['create --sub a --scope admin', /execute, files, sessions, clusters/],
    ['create --sub a --clusters UPPER', /a-z/],
    ['create --sub a --clusters ,', /names nothing/],
    ['create --sub a --default-cluster x*', /a-z/],
    ['create --sub a --clusters lab --default-cluster eu', /not among/],
    ['create --sub a --limit gpus=1', /concurrency/],
    ['create --sub a --limit concurrency=many', /name=number/],
    ['create --sub a --limit timeout_ms=0', /^--limit timeout_ms: [^\n]*>=1$/],
    ['create --sub a --expires soon', /30m, 12h or 90d/],
    ['create --sub a --expires 91d', /90d at most/],
    ['frobnicate', /no 'keys frobnicate'/],
    ['constructor', /no 'keys constructor'/],
  ];
  test.for(faults)('%s says what to do', async ([args, sentence]) => {
    await expect(keys(args)).rejects.toThrow(sentence);
    await expect(keys(args)).rejects.toBeInstanceOf(UsageError);
  });

  test('without a folder says how to make one', async () => {
    rmSync(dir, { recursive: true });
    await expect(keys('create --sub a')).rejects.toThrow(`'podgate keys init --dir ${dir}'`);
    await expect(keys('revoke --sub a')).rejects.toThrow(/podgate keys init/);
  });

  test('shows nothing of a private key that is broken', async () => {
    writeFileSync(join(dir, KEY_FILES.callersPrivate), read('callersPrivate').slice(0, -20));
    const error: Error = await keys('create --sub a').then(
      () => new Error('none'),
      (reason) => reason,
    );
    expect(error).toBeInstanceOf(UsageError);
    expect(error.message).not.toMatch(/[\w-]{43}/);
  });
});

test.for([['show'], ['revoke']])(
  'podgate keys %s - waits for no key when it is interrupted',
  async ([verb = '']) => {
    const interrupt = new AbortController();
    const [stdin, out] = [new PassThrough(), new PassThrough()];
    const io = { stdin, stdout: out, stderr: out, signal: interrupt.signal };
    const running = runKeysCommand([verb, '-', '--dir', dir], io);
    interrupt.abort('SIGINT');
    await expect(running).rejects.toMatchObject({ name: 'AbortError' });
  },
);

describe('a folder that cannot be written to', () => {
  const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));
  /** As where the disk is full: a file can be made and holds nothing. */
  const full = (args: string) =>
    spawnSync(
      'bash',
      ['-c', `trap '' XFSZ; ulimit -f 0; exec "${process.execPath}" "${MAIN}" ${args} --dir "${dir}"`],
      {
        encoding: 'utf8',
        env: { PATH: process.env.PATH },
      },
    );

  test('has nothing half written left, by init or by revoke', async () => {
    mkdirSync(dir);
    writeFileSync(join(dir, 'notes'), '');
    expect(full('keys init')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('cannot be written'),
    });
    expect(readdirSync(dir)).toEqual(['notes']);
    await initKeyFolder(dir);
    const before = readdirSync(dir);
    expect(full('keys revoke some-id').stderr).toContain('cannot be written');
    expect(readdirSync(dir)).toEqual(before);
  });
});

describe('podgate keys revoke', () => {
  beforeEach(() => initKeyFolder(dir));

  test('ends a key by its id, by itself, and by standard input', async () => {
    const made = await Promise.all(
      ['a', 'b', 'c', 'd'].map(async (sub) => (await keys(`create --sub ${sub}`)).stdout.trim()),
    );
    const [first = '', second = '', third = '', fourth = ''] = made;
    const parts = readToken(first);
    await keys(`revoke ${'ok' in parts ? '' : parts.claims.jti}`);
    await keys(`revoke ${second}`);
    await keys('revoke -', `${third}\n`);
    const gateway = await openGateway();
    for (const key of [first, second, third])
      await expect(gateway.authenticate(bearer(key))).rejects.toThrow();
    expect(await gateway.authenticate(bearer(fourth))).toMatchObject({ sub: 'd' });
    expect(JSON.parse(read('deny')).jti).toHaveLength(3);
  });

  test('ends every key of a subject, to come too, and no agent of that name', async () => {
    await keys('revoke --sub alice');
    await keys('revoke --sub agent-1 --agent');
    const key = (await keys('create --sub alice')).stdout.trim();
    await expect((await openGateway()).authenticate(bearer(key))).rejects.toThrow();
    expect(JSON.parse(read('deny')).sub).toEqual([
      { issuer: 'podgate:callers', sub: 'alice' },
      { issuer: 'podgate:agents', sub: 'agent-1' },
    ]);
  });

  test('of an agent’s credential names its token', async () => {
    const credential = (await agents('token --cluster lab')).stdout.trim();
    await keys(`revoke ${credential}`);
    const parts = readToken(parseCredential(credential).token);
    expect(JSON.parse(read('deny')).jti).toEqual(['ok' in parts ? '' : parts.claims.jti]);
  });

  test('loses none of many at once, and leaves nothing beside', async () => {
    const names = Array.from({ length: 12 }, (_, index) => `id-${index}`);
    await Promise.all(names.map((jti) => addToDenyFile(dir, { jti: [jti], sub: [] })));
    await keys('revoke id-3');
    expect(JSON.parse(read('deny')).jti.toSorted()).toEqual(names.toSorted());
    expect(readdirSync(dir).filter((name) => /lock|tmp/.test(name))).toEqual([]);
  });

  test('changes nothing where the list cannot be understood', async () => {
    writeFileSync(join(dir, KEY_FILES.deny), '{"jti": [');
    await expect(keys('revoke id-1')).rejects.toThrow(/nothing was changed/);
    expect(read('deny')).toBe('{"jti": [');
  });

  test('wants something to revoke', async () => {
    await expect(keys('revoke')).rejects.toThrow(/--sub NAME/);
    await expect(keys('revoke eyJx.eyJx.x')).rejects.toThrow(/neither a key nor/);
  });
});

describe('podgate keys show', () => {
  beforeEach(() => initKeyFolder(dir));

  const secrets = () =>
    ['callersPrivate', 'agentsPrivate', 'ids'].flatMap((name) =>
      [...read(name as keyof typeof KEY_FILES).matchAll(/"[dk]": "([\w-]{43})"/g)].map(
        ([, secret]) => secret ?? '',
      ),
    );

  test('says what a key allows and whether it is accepted', async () => {
    const key = (await keys('create --sub alice --limit concurrency=4')).stdout.trim();
    const shown = JSON.parse((await keys(`show ${key}`)).stdout);
    expect(shown).toMatchObject({
      claims: { sub: 'alice', limits: { concurrency: 4 } },
      verdict: 'accepted, tenant default',
    });
    await keys(`revoke ${key}`);
    expect(JSON.parse((await keys('show -', key)).stdout).verdict).toBe('refused: revoked');
  });

  test('says what the folder holds, and never a secret', async () => {
    const credential = (await agents('token --cluster lab')).stdout.trim();
    const output = (await keys('show')).stdout + (await keys(`show ${credential}`)).stdout;
    expect(output).toContain('podgate:callers');
    expect(secrets()).toHaveLength(3);
    for (const secret of [...secrets(), parseCredential(credential).key.d])
      expect(output).not.toContain(secret);
  });

  test('shows a URL of keys without its query', async () => {
    const { issuers } = JSON.parse(read('issuers'));
    const { jwks_file: _, ...entry } = issuers[0];
    const other = { ...entry, issuer: 'other', jwks_url: 'https://keys.example/jwks?token=topsecret' };
    writeFileSync(join(dir, KEY_FILES.issuers), JSON.stringify({ issuers: [...issuers, other] }));
    const { stdout } = await keys('show');
    expect(stdout).toContain('"https://keys.example/jwks"');
    expect(stdout).not.toContain('topsecret');
  });

  test('shows no control character that a key carries', async () => {
    const claims = Buffer.from(JSON.stringify({ sub: '\u009b2J\u202e' })).toString('base64url');
    const { stdout } = await keys(
      'show -',
      `${Buffer.from('{"typ":"x"}').toString('base64url')}.${claims}.AAAA`,
    );
    expect(stdout).toMatch(/^[\x20-\x7e\n]+$/);
  });

  test('says that text is no key', async () => {
    await expect(keys('show nonsense')).rejects.toThrow(/no key/);
  });
});

describe('podgate agents token', () => {
  beforeEach(() => initKeyFolder(dir));

  test('prints a credential that an agent joins with', async () => {
    const { stdout } = await agents('token --cluster lab,eu-* --sub agent-1 --max-instances 2 --expires 1d');
    expect(stdout).toMatch(/^podgate_agent_[\w-]+\n$/);
    const { token, key } = parseCredential(stdout);
    expect(token).not.toContain(key.d);
    const parts = { nonce: 'n'.repeat(43), origin: ORIGIN, instance: 'instance-1', timeMs: NOW_MS };
    const signature = await signProof((await importSigningKey(key)).key, parts);
    expect(await (await openGateway()).authenticateAgent(token, { ...parts, signature })).toMatchObject({
      tenant: 'default',
      clusters: ['lab', 'eu-*'],
      sub: 'agent-1',
      maxInstances: 2,
      expiresAtMs: (NOW + 86_400 + 30) * 1000,
    });
  });

  test('renews a credential: the same name, key, clusters and number of agents, good for longer', async () => {
    const file = join(parent, 'agent.token');
    const claimsOf = (credential: string) => {
      const parts = readToken(parseCredential(credential).token);
      return 'claims' in parts ? parts.claims : expect.unreachable('it cannot be read');
    };
    writeFileSync(file, (await agents('token --cluster lab,eu-* --max-instances 2 --expires 1d')).stdout);
    const old = readFileSync(file, 'utf8');
    const newer = (await agents(`token --renew ${file}`)).stdout;
    expect(parseCredential(newer).key).toEqual(parseCredential(old).key);
    const { jti, exp, ...kept } = claimsOf(old);
    expect(claimsOf(newer)).toMatchObject({ ...kept, exp: NOW + 90 * 86_400 });
    expect(claimsOf(newer).jti).not.toBe(jti);
    const other = (await agents(`token --renew ${file} --cluster us --max-instances 3 --expires 2d`)).stdout;
    expect(claimsOf(other)).toMatchObject({ clusters: ['us'], max_instances: 3, exp: NOW + 2 * 86_400 });
    // A signing key that took the place of the old one signs the same.
    await keys('init --force');
    const { key } = parseCredential((await agents(`token --renew ${file}`)).stdout);
    expect(key).toEqual(parseCredential(old).key);
  });

  test('prints only the token for a key that the agent made', async () => {
    const pair = await generateKeyPair();
    const file = join(parent, 'agent.jwk');
    writeFileSync(file, JSON.stringify(toPublicJwk(pair)));
    const token = (await agents(`token --cluster lab --public-key ${file}`)).stdout.trim();
    const parts = readToken(token);
    expect('ok' in parts ? parts : parts.claims).toMatchObject({ cnf: { jwk: { x: pair.x } } });
    writeFileSync(file, JSON.stringify(pair));
    await expect(agents(`token --cluster lab --public-key ${file}`)).rejects.toThrow(/private key/);
  });

  const faults: [args: string, sentence: RegExp][] = [
    ['token', /--cluster/],
    ['token --cluster A', /a-z/],
    ['token --cluster lab --max-instances 0', /whole number/],
    ['token --cluster lab --expires 400d', /366d at most/],
    ['token --cluster lab --public-key /nonexistent', /no JWK/],
    ['token --renew /nonexistent', /cannot read \/nonexistent/],
    ['token --renew /dev/null', /\/dev\/null: The agent's credential cannot be read/],
    ['token --renew /nonexistent --sub a', /--renew keeps the name and the key/],
    ['token --renew /nonexistent --public-key a', /--renew keeps the name and the key/],
    ['tokens', /no 'agents tokens'/],
  ];
  test.for(faults)('%s says what to do', async ([args, sentence]) => {
    await expect(agents(args)).rejects.toThrow(sentence);
  });
});

test('help goes to stdout when asked for, else to stderr with status 2', async () => {
  for (const command of [runKeysCommand, runAgentsCommand]) {
    expect(await run(command, ['--help'])).toMatchObject({
      status: 0,
      stderr: '',
      stdout: expect.stringContaining('Usage:'),
    });
    expect(await run(command, [])).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringContaining('Usage:'),
    });
  }
  expect((await keys('create --help')).stdout).toContain('--limit');
});

test('spans of time are written as they are read', () => {
  for (const [text, seconds] of [
    ['45s', 45],
    ['30m', 1800],
    ['12h', 43_200],
    ['90d', 7_776_000],
  ] as const) {
    expect(parseDuration(text)).toBe(seconds);
    expect(formatDuration(seconds)).toBe(text);
  }
  for (const text of ['', '0d', '1', 'd', '1w', '1.5h', '-1d', '9999999999d'])
    expect(() => parseDuration(text)).toThrow(UsageError);
});
