import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AGENT_VARIABLE_NAMES, readAgentConfig } from '../../agent/config.ts';
import { startConfiguredAgent } from '../../agent/run-agent.ts';
import type { RunningAgent } from '../../agent/start-agent.ts';
import { addToDenyFile } from '../../cli/deny-file.ts';
import { type CallerKeyRequest, issueAgentToken, issueCallerKey } from '../../cli/issue-keys.ts';
import { initKeyFolder, KEY_FILES } from '../../cli/key-folder.ts';
import { readTokenId } from '../../cli/show-keys.ts';
import { Podgate } from '../../client/podgate.ts';
import type { ExecuteRequest, ExecuteResult } from '../../client/types.ts';
import { GATEWAY_VARIABLE_NAMES, readGatewayConfig } from '../../gateway/node/config.ts';
import { type RunningGateway, serveGateway } from '../../gateway/node/serve-gateway.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { type HeldRun, type HoldTarget, holdRun } from './held-run.ts';
import { descendants, isAlive, isNode, type ProcessName } from './process-tree.ts';

type Variables = Readonly<Record<string, string>>;

export type StackOptions = {
  /** Templates of every agent; without them the variables define `default`. */
  templates?: readonly TemplateInput[];
  /** Variables of gateway and agents, such as MAX_OUTPUT_BYTES. */
  variables?: Variables;
  /** One agent for the cluster `local` unless given. */
  agents?: readonly AgentOptions[];
};

export type AgentOptions = { cluster: string; templates?: readonly TemplateInput[]; variables?: Variables };

/** One line of a log. */
export type Entry = Readonly<Record<string, unknown>> & {
  readonly of: 'gateway' | 'agent';
  readonly event: string;
};

export type Stack = AsyncDisposable & {
  readonly url: string;
  /** Keys and what belongs to them; files of callers are below `files`. */
  readonly dir: string;
  readonly gateway: RunningGateway;
  readonly agents: readonly RunningAgent[];
  /** A client that may do everything. */
  readonly podgate: Podgate;
  readonly ownKey: string;
  /** A program on the shared key that has begun and goes on until it is let go. */
  hold(request?: Partial<ExecuteRequest>, target?: Partial<HoldTarget>): Promise<HeldRun>;
  /** A key for `sub`, a new one unless given, with every scope unless given. */
  key(request?: Partial<CallerKeyRequest>): Promise<string>;
  client(request?: Partial<CallerKeyRequest>): Promise<Podgate>;
  /** Puts a key on the deny-list, which the gateway reads every 15 s. */
  revoke(key: string): Promise<void>;
  /** Code on the shared client, with the rest of the request. */
  run(code: string, rest?: Omit<ExecuteRequest, 'code'>): Promise<ExecuteResult>;
  /** One request as it stands; with the key of `podgate` unless it has one. */
  fetch(path: string, init?: RequestInit): Promise<Response>;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
  /** What an agent joins with. */
  agentToken(...clusters: string[]): Promise<string>;
  startAgent(options: AgentOptions): Promise<RunningAgent>;
  /** Resolves with the first log entry, past or to come, that `matches`. */
  logged(matches: (entry: Entry) => boolean): Promise<Entry>;
  readonly log: readonly Entry[];
  /** Resolves when each of the clusters can be used and no pool has a sandbox on its way. */
  warm(clusters: readonly string[]): Promise<void>;
  /** Processes of sandboxes and their keepers. */
  sandboxProcesses(): ProcessName[];
};

export const ALL_SCOPES = ['execute', 'files', 'sessions', 'clusters'] as const;
const LOOK_MS = 5;
const LOOKS = 6_000;

/**
 * A gateway and agents with the local backend, as `podgate gateway` and `podgate agent` start them, joined by real
 * WebSockets over loopback. Its end fails where a sandbox left a process.
 */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  await using opened = new AsyncDisposableStack();
  const before = new Set(descendants(process.pid).map(({ pid }) => pid));
  const dir = await mkdtemp(join(tmpdir(), 'podgate-stack-'));
  opened.defer(() => rm(dir, { recursive: true, force: true }));
  await initKeyFolder(dir);
  const { entries, record, logged } = createEntries();
  const gateway = await serveGateway({
    config: {
      ...readGatewayConfig({
        environment: gatewayVariables(dir, options.variables),
        alsoKnown: AGENT_VARIABLE_NAMES,
      }),
      metrics: null,
    },
    version: '0.5.0',
    log: (entry) => record({ of: 'gateway', ...entry }),
  });
  const { url } = gateway;
  const agents: RunningAgent[] = [];
  const sandboxProcesses = () => descendants(process.pid, (pid) => !before.has(pid) && !isNode(pid));
  opened.defer(async () => {
    const processes = sandboxProcesses();
    await Promise.all(agents.map((agent) => agent.close()));
    await gateway.close();
    const left = processes.filter(isAlive);
    if (left.length > 0) throw new Error(`sandboxes left processes: ${JSON.stringify(left)}`);
  });

  async function key(request: Partial<CallerKeyRequest> = {}): Promise<string> {
    const sub = request.sub ?? `caller-${crypto.randomUUID()}`;
    return (await issueCallerKey(dir, { scopes: ALL_SCOPES, ...request, sub }, Date.now())).text;
  }

  async function agentToken(...clusters: string[]): Promise<string> {
    return (await issueAgentToken(dir, { clusters }, Date.now())).text;
  }

  async function startAgent({ cluster, templates = options.templates, variables }: AgentOptions) {
    const file = templates && (await writeTemplates(dir, templates));
    const environment = {
      PATH: '/usr/local/bin:/usr/bin:/bin',
      // Tests of something else measure times.
      PODGATE_CANARY: 'off',
      ...options.variables,
      ...variables,
      EXECUTOR_BACKEND: 'local',
      PODGATE_GATEWAY_URL: url,
      PODGATE_AGENT_TOKEN: await agentToken(cluster),
      PODGATE_AGENT_PORT: '0',
      PODGATE_CLUSTER: cluster,
      ...(file && { PODGATE_TEMPLATES: file }),
    };
    const agent = await startConfiguredAgent({
      config: readAgentConfig({ environment, alsoKnown: GATEWAY_VARIABLE_NAMES }),
      software: 'podgate/0.5.0',
      log: (event, fields) => record({ of: 'agent', event, ...fields }),
    });
    agents.push(agent);
    return agent;
  }

  const ownKey = await key({ sub: 'own' });
  const podgate = new Podgate({ baseUrl: url, key: ownKey });

  async function warm(clusters: readonly string[]): Promise<void> {
    for (let looks = 0; looks < LOOKS; looks += 1) {
      const { clusters: known } = await podgate.clusters.list();
      const reachable = clusters.every((name) =>
        known.find((each) => each.name === name)?.templates.some(({ slots_free }) => slots_free > 0),
      );
      const pools = agents.flatMap((agent) =>
        agent.status().clusters.flatMap((each) => Object.values(each.pools)),
      );
      if (reachable && pools.every(({ creating, connecting }) => creating + connecting === 0)) return;
      await sleep(LOOK_MS);
    }
    throw new Error(`no warm sandbox: ${JSON.stringify(entries.slice(-20))}`);
  }

  const clusters = options.agents ?? [{ cluster: 'local' }];
  await Promise.all(clusters.map(startAgent));
  await warm(clusters.map(({ cluster }) => cluster));
  const held = opened.move();
  const stackFetch = (path: string, init: RequestInit = {}) => {
    const headers = new Headers(init.headers);
    if (!headers.has('authorization') && !headers.has('x-api-key'))
      headers.set('authorization', `Bearer ${ownKey}`);
    return fetch(url + path, { ...init, headers });
  };
  return {
    url,
    dir,
    gateway,
    agents,
    podgate,
    ownKey,
    hold: (request, target) => holdRun({ url, key: ownKey, ...target }, request),
    key,
    client: async (request) => new Podgate({ baseUrl: url, key: await key(request) }),
    revoke: (key) => addToDenyFile(dir, { jti: [readTokenId(key)], sub: [] }),
    run: (code, rest = {}) => podgate.execute({ code, ...rest }),
    fetch: stackFetch,
    post: (path, body, headers = {}) =>
      stackFetch(path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
    agentToken,
    startAgent,
    logged,
    log: entries,
    warm,
    sandboxProcesses,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

function gatewayVariables(dir: string, variables: Variables = {}): Variables {
  return {
    PODGATE_ISSUERS: join(dir, KEY_FILES.issuers),
    PODGATE_DENY_LIST: join(dir, KEY_FILES.deny),
    PODGATE_ID_KEYS: join(dir, KEY_FILES.ids),
    FILE_STORAGE_DIR: join(dir, 'files'),
    PORT: '0',
    ...variables,
  };
}

/** JSON is YAML. */
async function writeTemplates(dir: string, templates: readonly TemplateInput[]): Promise<string> {
  const file = join(dir, `templates-${crypto.randomUUID()}.yaml`);
  await writeFile(file, JSON.stringify({ templates }));
  return file;
}

/** A log that can be waited on. */
function createEntries() {
  const entries: Entry[] = [];
  const waiting = new Set<(entry: Entry) => void>();
  return {
    entries,
    record(entry: Entry): void {
      entries.push(entry);
      for (const each of [...waiting]) each(entry);
    },
    logged(matches: (entry: Entry) => boolean): Promise<Entry> {
      const past = entries.find(matches);
      if (past) return Promise.resolve(past);
      return new Promise((resolve) => {
        const look = (entry: Entry) => {
          if (!matches(entry)) return;
          waiting.delete(look);
          resolve(entry);
        };
        waiting.add(look);
      });
    },
  };
}
