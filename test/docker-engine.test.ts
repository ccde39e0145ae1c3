import { expect, test } from 'vitest';
import { findEngine } from './fakes/find-engine.ts';

// vitest.config.ts leaves test/docker out where there is no engine: this is the one line that says so.
test('the tests of the Docker backend have an engine', async (context) => {
  const trouble = process.env.PODGATE_TEST_DOCKER_TROUBLE;
  context.skip(trouble !== undefined, trouble);
  expect(await findEngine()).toHaveProperty('image');
});
