import { expect, test } from 'vitest';
import { Podgate } from '../../client/podgate.ts';
import type { ExecuteResult } from '../../client/types.ts';
import type { Problem } from '../../shared/errors.ts';
import { describeStack } from './suite.ts';

const pool = { min: 1, max: 2 };
const AGENTS = [
  { cluster: 'alpha', templates: [{ name: 'default', pool }] },
  {
    cluster: 'beta',
    templates: [
      { name: 'default', languages: ['python' as const, 'bash' as const], pool },
      { name: 'special', pool },
    ],
  },
];

describeStack('Code runs on the cluster that is named', { agents: AGENTS }, (stack) => {
  const where = async (path: string, body: object, headers: Record<string, string> = {}) => {
    const response = await stack().post(path, { code: '1', ...body }, headers);
    const { cluster, code } = (await response.json()) as Partial<ExecuteResult & Problem>;
    return response.ok ? cluster : [response.status, code];
  };

  test.each(['alpha', 'beta'])('in the body, in the path, in a header, or by the key: %s', async (name) => {
    const other = name === 'alpha' ? 'beta' : 'alpha';
    const authorization = `Bearer ${await stack().key({ defaultCluster: name })}`;
    const byHeader = { 'podgate-cluster': name };
    expect(await where('/v1/execute', { cluster: name })).toBe(name);
    expect(await where(`/clusters/${name}/v1/execute`, {})).toBe(name);
    expect(await where('/v1/execute', {}, byHeader)).toBe(name);
    expect(await where('/v1/execute', {}, { authorization })).toBe(name);
    // The first that is given counts: body, path, header, key.
    expect(
      await where(`/clusters/${other}/v1/execute`, { cluster: name }, { 'podgate-cluster': other }),
    ).toBe(name);
    expect(await where(`/clusters/${name}/v1/execute`, {}, { 'podgate-cluster': other })).toBe(name);
    expect(await where('/v1/execute', {}, { authorization, 'podgate-cluster': other })).toBe(other);
  });

  test('as a base URL with cluster and key in it, for clients that can take nothing else', async () => {
    const { host } = new URL(stack().url);
    const podgate = new Podgate({ baseUrl: `http://key:${stack().ownKey}@${host}/clusters/beta` });
    expect((await podgate.execute('1')).cluster).toBe('beta');
    const { file_id } = await podgate.files.upload('x', { filename: 'x' });
    const staged = await podgate.execute({ code: 'open("x").read()', files: [{ path: 'x', file_id }] });
    expect(staged.stdout).toBe("'x'\n");
    // Files are the principal's, wherever they are used.
    expect(
      (await stack().run('open("x").read()', { cluster: 'alpha', files: [{ path: 'x', file_id }] })).stdout,
    ).toBe("'x'\n");
  });

  test('or, where none is, on the least loaded that has the template and the language', async () => {
    expect(await where('/v1/execute', { template: 'special' })).toBe('beta');
    expect(await where('/v1/execute', { language: 'bash' })).toBe('beta');
    await using _one = await stack().hold({ cluster: 'alpha' });
    expect(await where('/v1/execute', {})).toBe('beta');
  });

  test('and nowhere else: a name that is none, or that the key may not use, is a 404', async () => {
    const authorization = `Bearer ${await stack().key({ clusters: ['alpha'] })}`;
    const missing = [404, 'no_cluster'];
    expect(await where('/v1/execute', { cluster: 'gamma' })).toEqual(missing);
    expect(await where('/clusters/gamma/v1/execute', {})).toEqual(missing);
    expect(await where('/v1/execute', { cluster: 'beta' }, { authorization })).toEqual(missing);
    expect(await where('/v1/execute', {}, { authorization, 'podgate-cluster': 'Not A Name' })).toEqual(
      missing,
    );
    expect(await where('/v1/execute', {}, { authorization })).toBe('alpha');
    expect(await where('/v1/execute', { template: 'special' }, { authorization })).toEqual([
      404,
      'no_template',
    ]);
    expect(await where('/v1/execute', { language: 'bash', cluster: 'alpha' })).toEqual([422, 'no_language']);
  });

  test('with a template that the key may use', async () => {
    const authorization = `Bearer ${await stack().key({ templates: ['special'] })}`;
    expect(await where('/v1/execute', {}, { authorization })).toBe('beta');
    expect(await where('/v1/execute', { template: 'default' }, { authorization })).toEqual([
      404,
      'no_template',
    ]);
  });

  test('GET /v1/clusters lists those that the key may use, with their templates', async () => {
    const { clusters } = await stack().podgate.clusters.list();
    expect(clusters.map(({ name, state, backend }) => [name, state, backend])).toEqual([
      ['alpha', 'ready', 'local'],
      ['beta', 'ready', 'local'],
    ]);
    expect(clusters[1]?.templates.map(({ name, languages }) => [name, languages])).toEqual([
      ['default', ['python', 'bash']],
      ['special', ['python']],
    ]);
    expect(clusters[0]?.instances).toMatchObject([{ links: 2, draining: false }]);
    const narrow = await stack().client({ clusters: ['be*'] });
    expect((await narrow.clusters.list()).clusters.map(({ name }) => name)).toEqual(['beta']);
    const response = await stack().fetch('/v1/clusters', {
      headers: { authorization: `Bearer ${await stack().key({ scopes: ['execute'] })}` },
    });
    expect(response.status).toBe(403);
  });
});

describeStack('An agent', {}, (stack) => {
  test('that joins while the gateway runs can be used at once, and its cluster is gone with it', async () => {
    expect((await stack().post('/v1/execute', { code: '1', cluster: 'later' })).status).toBe(404);
    const agent = await stack().startAgent({ cluster: 'later' });
    await stack().warm(['later']);
    expect((await stack().run('1', { cluster: 'later' })).cluster).toBe('later');
    await agent.drain(1_000);
    const after = await stack().post('/v1/execute', { code: '1', cluster: 'later' });
    expect([404, 503]).toContain(after.status);
    expect((await stack().run('1')).cluster).toBe('local');
  });

  test('that is told to leave lets what runs end and takes nothing new', async () => {
    const agent = await stack().startAgent({ cluster: 'leaving' });
    await stack().warm(['leaving']);
    const running = stack().run('import time; print("a", flush=True); time.sleep(0.5); print("b")', {
      cluster: 'leaving',
      last_line_interactive: false,
    });
    await expect.poll(() => agent.status().running, { interval: 2 }).toBe(1);
    const drained = agent.drain(5_000);
    await stack().logged(({ event }) => event === 'agent_draining');
    await expect
      .poll(async () => (await stack().post('/v1/execute', { code: '1', cluster: 'leaving' })).status, {
        interval: 5,
      })
      .toBe(503);
    expect(await running).toMatchObject({ stdout: 'a\nb\n', exit_code: 0 });
    await drained;
  });

  test('whose deadline passes ends what still runs, and the caller is told that it had started', async () => {
    const agent = await stack().startAgent({ cluster: 'impatient' });
    await stack().warm(['impatient']);
    await using held = await stack().hold({ cluster: 'impatient' });
    await agent.drain(50);
    const { event, data } = await held.last;
    expect([event, data]).toEqual([
      'error',
      expect.objectContaining({ started: 'yes', code: expect.stringMatching(/draining|agent_lost/) }),
    ]);
    expect(held.alive()).toBe(0);
  });
});
