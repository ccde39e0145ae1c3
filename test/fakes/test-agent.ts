import { type AgentOptions, type RunningAgent, startAgent } from '../../agent/start-agent.ts';
import { fixedTemplates } from '../../agent/templates/template-source.ts';
import { formatCredential } from '../../shared/credential.ts';
import { generateKeyPair } from '../../shared/key-set.ts';
import { Secret } from '../../shared/secret.ts';
import { parseTemplate, type TemplateInput } from '../../shared/template.ts';
import { createFakeBackend, type FakeBackend } from './fake-backend.ts';
import { createKeyIssuer } from './key-issuer.ts';
import type { MockGateway } from './mock-gateway.ts';

export type TestAgent = {
  readonly agent: RunningAgent;
  readonly backend: FakeBackend;
  readonly logged: [event: string, fields: Readonly<Record<string, unknown>>][];
  /** Fields of the first line of that event, now or later. */
  line(event: string): Promise<Readonly<Record<string, unknown>>>;
};

export type TestAgentOptions = Partial<AgentOptions> & {
  gatewayUrl?: URL;
  templates?: readonly TemplateInput[];
  backend?: FakeBackend;
};

/** A credential that parses; whether a gateway accepts it is the gateway's. */
export async function testCredential(clusters = ['*']): Promise<Secret> {
  const issuer = await createKeyIssuer({ kind: 'agents' });
  const key = await generateKeyPair('agent');
  const { kty, crv, x } = key;
  const token = await issuer.sign({ claims: { cnf: { jwk: { kty, crv, x } }, clusters } });
  return new Secret(formatCredential({ token, key }));
}

/** A real agent on a fake backend: one cluster, `here`. */
export async function startTestAgent(mock: MockGateway, options: TestAgentOptions = {}): Promise<TestAgent> {
  const {
    templates = [{ name: 'default', languages: ['python', 'bash'], pool: { min: 2, max: 4 } }],
    ...rest
  } = options;
  const backend = options.backend ?? createFakeBackend();
  const parsed = await Promise.all(templates.map((template) => parseTemplate(template)));
  const credential = await testCredential();
  const logged: TestAgent['logged'] = [];
  const lookers = new Set<() => void>();
  const agent = await startAgent({
    clusters: [
      { name: 'here', backend, templates: fixedTemplates(new Map(parsed.map((one) => [one.name, one]))) },
    ],
    gateway: { url: options.gatewayUrl ?? mock.url },
    credential: () => credential,
    http: null,
    maxOutputBytes: 100_000_000,
    software: 'podgate/test',
    log(event, fields = {}) {
      logged.push([event, fields]);
      for (const look of [...lookers]) look();
    },
    random: () => 0.005,
    ...rest,
  });
  return {
    agent,
    backend,
    logged,
    line: (event) =>
      new Promise((resolve) => {
        const look = () => {
          const found = logged.find(([name]) => name === event);
          if (!found) return;
          lookers.delete(look);
          resolve(found[1]);
        };
        lookers.add(look);
        look();
      }),
  };
}
