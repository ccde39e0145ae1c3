import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type CallerKeyRequest, issueAgentToken, issueCallerKey } from '../../cli/issue-keys.ts';
import { initKeyFolder, KEY_FILES } from '../../cli/key-folder.ts';
import type { LogEntry } from '../../gateway/gateway-deps.ts';
import { readGatewayConfig } from '../../gateway/node/config.ts';
import {
  type RunningGateway,
  type ServeGatewayOptions,
  serveGateway,
} from '../../gateway/node/serve-gateway.ts';
import { parseCredential } from '../../shared/credential.ts';
import { importSigningKey } from '../../shared/key-set.ts';
import { signProof } from '../../shared/proof.ts';
import type { AgentIdentity } from './agent-identity.ts';
import { MockAgent, type MockAgentOptions } from './mock-agent.ts';
import { webSocketDoor } from './web-socket-door.ts';

/** A gateway on real sockets, with keys in files, as `podgate gateway` runs it. */
export type ServedGateway = {
  readonly running: RunningGateway;
  readonly url: string;
  readonly key: string;
  readonly log: LogEntry[];
  /** A key like `key`, unless the request says otherwise. */
  issue(request?: Partial<CallerKeyRequest>): Promise<string>;
  /** A mock agent that has joined over a WebSocket. */
  agent(options?: Partial<MockAgentOptions>): Promise<MockAgent>;
  execute(body: object, path?: string, init?: RequestInit): Promise<Response>;
};

export async function serveTestGateway(
  environment: Record<string, string> = {},
  options: Pick<ServeGatewayOptions, 'lastRequestMs' | 'closeMs'> = {},
): Promise<ServedGateway> {
  const dir = await mkdtemp(join(tmpdir(), 'podgate-gateway-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  await initKeyFolder(dir);
  const issue = async (request: Partial<CallerKeyRequest> = {}) => {
    const asked = {
      sub: 'tester',
      scopes: ['execute', 'files', 'clusters', 'sessions'] as const,
      ...request,
    };
    return (await issueCallerKey(dir, asked, Date.now())).text;
  };
  const key = await issue();
  const log: LogEntry[] = [];
  const running = await serveGateway({
    config: readGatewayConfig({
      environment: {
        PORT: '0',
        PODGATE_METRICS_PORT: '0',
        PODGATE_ISSUERS: join(dir, KEY_FILES.issuers),
        PODGATE_ID_KEYS: join(dir, KEY_FILES.ids),
        PODGATE_DENY_LIST: join(dir, KEY_FILES.deny),
        FILE_STORAGE_DIR: join(dir, 'files'),
        ...environment,
      },
    }),
    ...options,
    version: '0.5.0',
    log: (entry) => log.push(entry),
  });
  onTestFinished(() => running.close());
  const { url } = running;
  return {
    running,
    url,
    key,
    log,
    issue,
    async agent(options = {}) {
      const issued = await issueAgentToken(dir, { clusters: ['*'] }, Date.now());
      const identity = await identityOf(issued.text, url);
      return new MockAgent(webSocketDoor(url), { identity, now: Date.now, origin: url, ...options }).joined();
    },
    execute: (body, path = '/v1/execute', init = {}) =>
      fetch(url + path, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: JSON.stringify(body),
        ...init,
      }),
  };
}

async function identityOf(credential: string, gatewayUrl: string): Promise<AgentIdentity> {
  const { token, key: jwk } = parseCredential(credential);
  const { key } = await importSigningKey(jwk);
  return {
    token,
    async prove(nonce, instance, timeMs, origin = gatewayUrl) {
      return { time: timeMs, signature: await signProof(key, { nonce, origin, instance, timeMs }) };
    },
  };
}
