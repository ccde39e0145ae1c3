import { expect, test } from 'vitest';
import type { ExecuteResponse } from '../../shared/api.ts';
import { describeStack } from './suite.ts';

describeStack('code that was written for a notebook', {}, (stack) => {
  const run = async (code: string, rest: object = {}): Promise<ExecuteResponse> => {
    const response = await stack().post('/v1/execute', { code, rich: true, timeout_ms: 10_000, ...rest });
    expect(response.status, await response.clone().text()).toBe(200);
    return (await response.json()) as ExecuteResponse;
  };

  test.each(['include, exclude', 'include=None, exclude=None, **_', ''])(
    'gives the bundle of a value that takes (%s)',
    async (names) => {
      const code = `class Value:\n    def _repr_mimebundle_(${['self', names].filter(Boolean).join(', ')}): return {"text/html": "<b>"}\nValue()`;
      expect((await run(code)).results).toMatchObject([{ data: { 'text/html': '<b>' } }]);
    },
  );

  test('gives what a library calls JSON as JSON, and leaves out what is none', async () => {
    const code = `class Plot:
    def _repr_mimebundle_(self): return {"application/vnd.plot.v1+json": {"data": [1]}, "application/x+json": "{"}
    def __repr__(self): return "plot"
Plot()`;
    expect(await run(code)).toMatchObject({
      results: [{ data: { 'application/vnd.plot.v1+json': { data: [1] }, 'text/plain': 'plot' } }],
      results_omitted: [{ type: 'application/x+json', reason: 'not_json' }],
    });
  });
});
