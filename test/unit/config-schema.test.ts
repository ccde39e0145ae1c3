import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import {
  booleanVariable,
  choiceVariable,
  integerVariable,
  readEnvironment,
  secretVariable,
  unknownNames,
  urlVariable,
} from '../../shared/config-schema.ts';
import { Failure } from '../../shared/errors.ts';

const SCHEMAS = {
  POOL_SIZE: integerVariable(1, 100).default(2),
  PODGATE_UNSAFE: booleanVariable().default(false),
  EXECUTOR_BACKEND: choiceVariable(['kubernetes', 'docker', 'local']).default('kubernetes'),
  PODGATE_GATEWAY_URL: urlVariable(['http:', 'https:']).optional(),
  PODGATE_AGENT_TOKEN: secretVariable().optional(),
  KUBERNETES_IMAGE: choiceVariable(['one', 'two']).optional(),
};
const read = (environment: Record<string, string>) =>
  readEnvironment(SCHEMAS, environment, {
    secrets: ['PODGATE_AGENT_TOKEN'],
    aliases: { KUBERNETES_EXECUTOR_IMAGE: 'KUBERNETES_IMAGE' },
    alsoKnown: ['PODGATE_ISSUERS'],
  });
const refusal = (environment: Record<string, string>): string => {
  try {
    read(environment);
  } catch (error) {
    if (error instanceof Failure) return error.detail;
  }
  return 'was accepted';
};

describe('an environment', () => {
  test('gives frozen values and defaults; an empty variable counts as absent', () => {
    const values = read({ POOL_SIZE: '7', PODGATE_UNSAFE: '' });
    expect(values).toMatchObject({ POOL_SIZE: 7, PODGATE_UNSAFE: false, EXECUTOR_BACKEND: 'kubernetes' });
    expect(Object.isFrozen(values)).toBe(true);
  });

  test.for([
    [{ POOL_SIZE: '0' }, "POOL_SIZE: '0' is not accepted: use an integer from 1 to 100."],
    [{ POOL_SIZE: '101' }, "POOL_SIZE: '101' is not accepted: use an integer from 1 to 100."],
    [{ POOL_SIZE: '1e1' }, "POOL_SIZE: '1e1' is not accepted: use an integer from 1 to 100."],
    [{ PODGATE_UNSAFE: 'yes' }, "PODGATE_UNSAFE: 'yes' is not accepted: use true or false."],
    [
      { EXECUTOR_BACKEND: 'podman' },
      "EXECUTOR_BACKEND: 'podman' is not accepted: use kubernetes, docker or local.",
    ],
    [
      { PODGATE_GATEWAY_URL: 'gate:8000' },
      "PODGATE_GATEWAY_URL: 'gate:8000' is not accepted: use a URL that starts with http:// or https://.",
    ],
    [{ PODGATE_POOL: '1' }, 'PODGATE_POOL is not a name that Podgate knows: remove it.'],
    [
      { PODGATE_GATEWAY_ULR: 'x' },
      'PODGATE_GATEWAY_ULR is not a name that Podgate knows: did you mean PODGATE_GATEWAY_URL?',
    ],
    [
      { KUBERNETES_IMAGE: 'one', KUBERNETES_EXECUTOR_IMAGE: 'two' },
      'KUBERNETES_IMAGE and KUBERNETES_EXECUTOR_IMAGE differ; give one of them.',
    ],
    [
      { KUBERNETES_EXECUTOR_IMAGE: 'three' },
      "KUBERNETES_EXECUTOR_IMAGE: 'three' is not accepted: use one or two.",
    ],
  ] as [Record<string, string>, string][])('%j is refused', ([environment, sentence]) => {
    expect(refusal(environment)).toBe(sentence);
  });

  test('names every variable at fault at once', () => {
    expect(refusal({ POOL_SIZE: 'x', PODGATE_UNSAFE: 'x', PODGATE_X: '' }).split('\n')).toHaveLength(3);
  });

  test('does not show the value of a secret that is refused', () => {
    const detail = refusal({ PODGATE_AGENT_TOKEN: 'hush\nhush' });
    expect(detail).toContain('PODGATE_AGENT_TOKEN');
    expect(detail).not.toContain('hush');
  });

  test("lets another part's names and other programs' names through", () => {
    expect(read({ PODGATE_ISSUERS: 'x', HOME: '/root' }).POOL_SIZE).toBe(2);
  });

  test("lets a Kubernetes Service's variables through, and nothing that only looks like them", () => {
    const service = {
      PODGATE_SERVICE_HOST: '10.0.0.1',
      PODGATE_SERVICE_PORT: '8000',
      PODGATE_SERVICE_PORT_HTTP: '8000',
      PODGATE_GATEWAY_PORT: 'tcp://10.0.0.1:8000',
      PODGATE_GATEWAY_PORT_8000_TCP: 'tcp://10.0.0.1:8000',
      PODGATE_GATEWAY_PORT_8000_TCP_PROTO: 'tcp',
      PODGATE_GATEWAY_PORT_8000_TCP_PORT: '8000',
      PODGATE_GATEWAY_PORT_8000_TCP_ADDR: '10.0.0.1',
    };
    expect(unknownNames(service, [])).toEqual([]);
    expect(unknownNames({ PODGATE_GATEWAY_PORT: '8000' }, [])).toHaveLength(1);
  });
});

test('a secret never prints', () => {
  const { PODGATE_AGENT_TOKEN: secret } = read({ PODGATE_AGENT_TOKEN: 'hush' });
  expect(secret?.reveal()).toBe('hush');
  for (const shown of [`${secret}`, JSON.stringify({ secret }), inspect({ secret }), String(secret)]) {
    expect(shown).not.toContain('hush');
  }
});
