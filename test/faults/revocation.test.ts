import { expect, test } from 'vitest';
import { describeStack } from '../system/suite.ts';

describeStack('A program that has begun', {}, (stack) => {
  test('is ended by the revocation of its key, whether or not anybody reads it', {
    timeout: 40_000,
  }, async () => {
    const key = await stack().key({ sub: 'revoked-while-running' });
    await using read = await stack().hold({}, { key });
    await using left = await stack().hold({ detach: true }, { key });
    await left.leave();
    expect([read.alive(), left.alive()]).toEqual([1, 1]);
    await stack().revoke(key);
    expect(await read.last).toMatchObject({
      event: 'error',
      data: { code: 'unauthorized', started: 'yes' },
    });
    await expect.poll(() => read.alive() + left.alive(), { timeout: 20_000 }).toBe(0);
    const again = await stack().post('/v1/execute', { code: '1' }, { authorization: `Bearer ${key}` });
    expect(again.status).toBe(401);
  });
});
