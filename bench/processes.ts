import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createBenchClient } from './http-client.ts';

const MAIN = fileURLToPath(new URL('../cli/main.ts', import.meta.url));

export type Front = AsyncDisposable & {
  url: string;
  port: number;
  key: string;
  /** The agent's credential: more links may join with it. */
  token: string;
  gateway: ChildProcess;
  agent: ChildProcess;
  client: ReturnType<typeof createBenchClient>;
};

export type FrontOptions = {
  /** A templates file's text. */
  templates: string;
  environment?: Record<string, string>;
  /** Stands between agent and gateway: gets the gateway's port, gives the one to dial. */
  between?: (gatewayPort: number) => Promise<number>;
  /** Templates that must have a free sandbox before the figure starts. */
  warm: string[];
  /** What the agent serves; `bench` unless given. */
  clusters?: readonly string[];
};

/** Starts a gateway and an agent as processes of their own, as in production but on loopback. */
export async function startFront(options: FrontOptions): Promise<Front> {
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'podgate-bench-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const keys = join(folder, 'keys');
  await command(['keys', 'init', '--dir', keys]);
  const key = (
    await command(['keys', 'create', '--dir', keys, '--sub', 'bench', '--scope', 'execute,files,clusters'])
  ).trim();
  const { clusters = ['bench'] } = options;
  const named = clusters.flatMap((cluster) => ['--cluster', cluster]);
  const token = (await command(['agents', 'token', '--dir', keys, ...named])).trim();
  const templates = join(folder, 'templates.yaml');
  await writeFile(templates, options.templates);
  const port = await freePort();
  const dialled = options.between ? await options.between(port) : port;
  const environment = {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PODGATE_TEST_'))),
    PORT: String(port),
    PODGATE_METRICS_PORT: '0',
    PODGATE_AGENT_PORT: '0',
    PODGATE_ISSUERS: join(keys, 'issuers.json'),
    PODGATE_ID_KEYS: join(keys, 'ids.json'),
    PODGATE_ORIGINS: `http://127.0.0.1:${port},http://127.0.0.1:${dialled}`,
    FILE_STORAGE_DIR: join(folder, 'files'),
    EXECUTOR_BACKEND: 'local',
    // Never the defaults: those are addresses of others.
    PODGATE_CANARY_TARGETS: 'none',
    PODGATE_CLUSTER: 'bench',
    PODGATE_TEMPLATES: templates,
    PODGATE_GATEWAY_URL: `http://127.0.0.1:${dialled}`,
    PODGATE_AGENT_TOKEN: token,
    ...options.environment,
  };
  const gateway = start(['gateway'], environment);
  stack.defer(() => stop(gateway));
  const agent = start(['agent'], environment);
  stack.defer(() => stop(agent));
  const client = stack.use(createBenchClient(`http://127.0.0.1:${port}`, key));
  for (const cluster of clusters)
    for (const template of options.warm) await untilWarm(client, cluster, template);
  const kept = stack.move();
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    key,
    token,
    gateway,
    agent,
    client,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Resident memory of a process in bytes. */
export function residentBytes(child: ChildProcess): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
}

function start(args: string[], environment: NodeJS.ProcessEnv): ChildProcess {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // Drained, not kept: a full pipe would hold the process back.
  if (process.env.BENCH_LOG && child.stdout)
    createInterface(child.stdout).on('line', (line) => process.stderr.write(`${line}\n`));
  else child.stdout?.resume();
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

async function command(args: string[]): Promise<string> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`podgate ${args.join(' ')} ended with ${code}`);
  return Buffer.concat(chunks).toString();
}

async function freePort(): Promise<number> {
  const { createServer } = await import('node:net');
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

async function untilWarm(
  client: ReturnType<typeof createBenchClient>,
  cluster: string,
  template: string,
): Promise<void> {
  const deadline = performance.now() + 120_000;
  let last: unknown;
  while (performance.now() < deadline) {
    try {
      await client.post('/v1/execute', {
        code: 'pass',
        cluster,
        template,
        timeout_ms: 10_000,
        queue_timeout_ms: 30_000,
      });
      return;
    } catch (error) {
      last = error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw last;
}
