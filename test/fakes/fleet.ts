import { access, chmod, constants, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { issueAgentToken, issueCallerKey } from '../../cli/issue-keys.ts';
import { initKeyFolder, KEY_FILES } from '../../cli/key-folder.ts';
import { Podgate } from '../../client/podgate.ts';
import type { TemplateInput } from '../../shared/template.ts';
import { createFleetProcess, type FleetProcess } from './fleet-process.ts';
import { freePort } from './free-port.ts';
import { createAuthority } from './kube-api/certificates.ts';
import { processesSeeing } from './process-tree.ts';
import { type RunCounter, startRunCounter } from './run-counter.ts';
import { startTcpBalancer, type TcpBalancer } from './tcp-balancer.ts';
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts';

export type FleetOptions = {
  gateways: number;
  /** Each has a wire of its own to the gateways. */
  agents: readonly FleetAgentOptions[];
  templates?: readonly TemplateInput[];
  /** Variables of gateways and agents. */
  variables?: Readonly<Record<string, string>>;
  /** Links are encrypted, so that what a wire corrupts is noticed. */
  tls?: boolean;
  /** An address of this machine at which programs count themselves; else a socket beside their interpreter. */
  counterHost?: string | undefined;
  /** Where logs go, one file a process. */
  logs?: string | undefined;
};

export type FleetAgentOptions = { cluster: string; variables?: Readonly<Record<string, string>> };

export type FleetGateway = FleetProcess & {
  readonly port: number;
  readonly url: string;
  /** One of its metrics, `podgate_gateway_` left out. */
  metric(name: string): Promise<number>;
};
export type FleetAgent = FleetProcess & { readonly cluster: string; readonly wire: TcpProxy };

/** Gateways behind one address, agents with a wire each, all of them processes on this machine. */
export type Fleet = AsyncDisposable & {
  /** For callers: any gateway that listens. */
  readonly url: string;
  readonly balancer: TcpBalancer;
  /** For agents, behind their wires. */
  readonly entrance: TcpBalancer;
  readonly gateways: readonly FleetGateway[];
  readonly agents: readonly FleetAgent[];
  readonly counter: RunCounter;
  readonly key: string;
  /** A client on the common address, or on one gateway's own. */
  client(gateway?: FleetGateway): Podgate;
  callerKey(sub: string, limits?: Record<string, number>): Promise<string>;
  /** For an agent that is not of the fleet. */
  agentToken(cluster: string): Promise<string>;
  /** Starts what does not run, and waits until every agent has all its links to every gateway and a sandbox to give. */
  ready(): Promise<void>;
  /** Resolves when the gateway has that many links. */
  linked(gateway: FleetGateway, links: number): Promise<void>;
  /** Processes of sandboxes of this fleet, wherever they are in the tree. */
  sandboxProcesses(): number[];
};

const LINKS = 2;
const LOOK_MS = 20;
const READY_MS = 100_000;
/** After so long a process that was told to stop is told to hurry, and in the end killed. */
const HURRY_MS = 200;
const STOP_MS = 15_000;

/** Starts everything and waits until it can be used. Its end rejects where a sandbox left a process. */
export async function startFleet(options: FleetOptions): Promise<Fleet> {
  await using opened = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'podgate-fleet-'));
  opened.defer(() => rm(dir, { recursive: true, force: true }));
  const python = await makeInterpreter();
  opened.defer(() => rm(python, { recursive: true, force: true }));
  const { counterHost } = options;
  const counter = opened.use(
    await startRunCounter(counterHost ? { host: counterHost } : { path: join(python, 'runs') }),
  );
  await initKeyFolder(dir);
  const authority = createAuthority();
  const certificate = authority.issue({ name: 'gateway' });
  const balancer = opened.use(await startTcpBalancer());
  const entrance = opened.use(await startTcpBalancer(options.tls ? { certificate } : {}));
  const wires: TcpProxy[] = [];
  for (const _ of options.agents) wires.push(opened.use(await startTcpProxy(entrance.port)));
  const scheme = options.tls ? 'https' : 'http';
  const origins = wires.map(({ port }) => `${scheme}://127.0.0.1:${port}`);
  const logFile = (name: string) =>
    options.logs === undefined ? undefined : join(options.logs, `${name}.log`);

  async function gatewayOf(index: number): Promise<FleetGateway> {
    const [port, metricsPort] = [await freePort(), await freePort()];
    const process = createFleetProcess({
      name: `gateway-${index}`,
      args: ['gateway'],
      logFile: logFile(`gateway-${index}`),
      environment: {
        PODGATE_ISSUERS: join(dir, KEY_FILES.issuers),
        PODGATE_DENY_LIST: join(dir, KEY_FILES.deny),
        PODGATE_ID_KEYS: join(dir, KEY_FILES.ids),
        PODGATE_ORIGINS: origins.join(','),
        PODGATE_REPLICAS: String(options.gateways),
        PODGATE_FILE_STORE: options.gateways > 1 ? 'none' : 'folder',
        FILE_STORAGE_DIR: join(dir, `files-${index}`),
        PORT: String(port),
        PODGATE_METRICS_PORT: String(metricsPort),
        ...options.variables,
      },
    });
    return Object.assign(process, {
      port,
      url: `http://127.0.0.1:${port}`,
      async metric(name: string) {
        const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
        return Number(new RegExp(`^podgate_gateway_${name} (\\S+)$`, 'm').exec(text)?.[1]);
      },
    });
  }

  async function agentOf({ cluster, variables }: FleetAgentOptions, index: number): Promise<FleetAgent> {
    const name = `agent-${index}`;
    const templates = join(dir, `${name}.yaml`);
    const named = (options.templates ?? [{ name: 'default' }]).map((template) => ({
      python: join(python, 'bin/python3'),
      ...template,
    }));
    await writeFile(templates, JSON.stringify({ templates: named }));
    await writeFile(join(dir, 'ca.pem'), authority.cert);
    const { text: token } = await issueAgentToken(dir, { clusters: [cluster] }, Date.now());
    const process = createFleetProcess({
      name,
      args: ['agent'],
      logFile: logFile(name),
      environment: {
        EXECUTOR_BACKEND: 'local',
        PODGATE_GATEWAY_URL: origins[index] as string,
        ...(options.tls && { PODGATE_GATEWAY_CA_FILE: join(dir, 'ca.pem') }),
        PODGATE_AGENT_TOKEN: token,
        PODGATE_AGENT_PORT: '0',
        PODGATE_CLUSTER: cluster,
        PODGATE_TEMPLATES: templates,
        ...options.variables,
        ...variables,
      },
    });
    return Object.assign(process, { cluster, wire: wires[index] as TcpProxy });
  }

  const gateways = await Promise.all(
    Array.from({ length: options.gateways }, (_, index) => gatewayOf(index)),
  );
  const agents = await Promise.all(options.agents.map(agentOf));
  balancer.setTargets(gateways);
  entrance.setTargets(gateways);
  const { text: key } = await issueCallerKey(
    dir,
    { sub: 'fleet', scopes: ['execute', 'clusters', 'files', 'sessions'] },
    Date.now(),
  );
  const url = `http://127.0.0.1:${balancer.port}`;
  const client = (gateway?: FleetGateway) => new Podgate({ baseUrl: gateway?.url ?? url, key });

  async function linked(gateway: FleetGateway, links: number): Promise<void> {
    await eventually(
      `${links} links to ${gateway.name}`,
      async () => (await gateway.metric('links')) === links,
    );
  }

  async function ready(): Promise<void> {
    for (const each of [...gateways, ...agents]) if (each.pid === undefined) each.start();
    const runs = await Promise.all(
      agents.map(async (agent) => ({
        cluster: agent.cluster,
        instance: (await agent.logged(({ event }) => event === 'agent_started')).instance,
      })),
    );
    for (const gateway of gateways) {
      await eventually(`sandboxes through ${gateway.name}`, async () => {
        const { clusters } = await client(gateway).clusters.list();
        return runs.every((run) => {
          const known = clusters.find(({ name }) => name === run.cluster);
          // As many links may be those of a run that has just ended.
          const links = known?.instances?.find(({ instance }) => instance === run.instance)?.links;
          return links === LINKS && known?.templates.every(({ slots_free }) => slots_free > 0);
        });
      });
      await linked(gateway, agents.length * LINKS);
    }
  }

  opened.defer(async () => {
    await Promise.all([...agents, ...gateways].map(stop));
    const left = [...processesSeeing(python), ...agents.flatMap((agent) => agent.leftBehind())];
    if (left.length > 0) throw new Error(`sandboxes left processes: ${JSON.stringify(left)}`);
  });
  await ready();
  const held = opened.move();
  return {
    url,
    balancer,
    entrance,
    gateways,
    agents,
    counter,
    key,
    client,
    callerKey: async (sub, limits) =>
      (
        await issueCallerKey(
          dir,
          { sub, scopes: ['execute', 'clusters', 'sessions'], ...(limits && { limits }) },
          Date.now(),
        )
      ).text,
    agentToken: async (cluster) => (await issueAgentToken(dir, { clusters: [cluster] }, Date.now())).text,
    ready,
    linked,
    sandboxProcesses: () => processesSeeing(python).map(({ pid }) => pid),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** Ends a process whatever state it is in, nicely where that works. */
async function stop(process: FleetProcess): Promise<void> {
  process.kill('SIGCONT');
  process.kill('SIGTERM');
  const again = setTimeout(() => process.kill('SIGTERM'), HURRY_MS);
  const last = setTimeout(() => process.kill('SIGKILL'), STOP_MS);
  await process.ended();
  clearTimeout(again);
  clearTimeout(last);
}

async function eventually(what: string, isSo: () => Promise<boolean | undefined>): Promise<void> {
  const untilMs = performance.now() + READY_MS;
  let last: unknown;
  while (performance.now() < untilMs) {
    try {
      if (await isSo()) return;
    } catch (error) {
      last = error;
    }
    await sleep(LOOK_MS);
  }
  throw new Error(`never came to pass: ${what}`, { cause: last });
}

/** An interpreter in a folder of its own, which sandboxes see: a socket in it is a way out of them for tests alone. */
async function makeInterpreter(): Promise<string> {
  const folder = await mkdtemp(join(await visibleFolder(), 'podgate-fleet-'));
  await chmod(folder, 0o755);
  await mkdir(join(folder, 'bin'));
  await symlink('/usr/bin/python3', join(folder, 'bin/python3'));
  await writeFile(join(folder, 'pyvenv.cfg'), 'home = /usr/bin\ninclude-system-site-packages = true\n');
  return folder;
}

/** Not below /tmp or /dev/shm: in a sandbox these are its own. */
async function visibleFolder(): Promise<string> {
  for (const folder of ['/opt', '/run', homedir()])
    if (
      await access(folder, constants.W_OK).then(
        () => true,
        () => false,
      )
    )
      return folder;
  throw new Error('no folder to put an interpreter in');
}
