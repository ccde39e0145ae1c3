import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ENGINE_HOST, ENGINE_IMAGE } from './docker-engine.ts';

const ENGINE = fileURLToPath(new URL('../../.ci/engine', import.meta.url));
const run = promisify(execFile);

export type OwnEngineOptions = {
  /** MB of a disk of its own: without it images and containers lie beside everything else. */
  diskMb?: number;
  /** Options of dockerd, or of podman. */
  flags?: readonly string[];
  /** Podman's service in dockerd's place. */
  isPodman?: boolean;
};

/** An engine that a test may stop, kill and fill, with the tests' image on it. */
export type OwnEngine = AsyncDisposable & {
  readonly host: string;
  readonly dir: string;
  /** Where it keeps images and containers. */
  readonly data: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  /** Holds it where it is, or lets it go on. */
  freeze(on: boolean): void;
};

/** Why there can be no Podman; undefined where there can. */
export async function podmanTrouble(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'its service is started as root';
  const found = await run('podman', ['--version']).catch((cause: NodeJS.ErrnoException) => cause);
  return found instanceof Error ? `podman cannot be run (${found.code})` : undefined;
}

/** Needs root and dockerd, which is what started the tests' engine. */
export async function startOwnEngine(options: OwnEngineOptions = {}): Promise<OwnEngine> {
  const { diskMb, flags = [], isPodman = false } = options;
  await using opened = new AsyncDisposableStack();
  // A socket's path has 107 bytes at most.
  const dir = await mkdtemp('/run/podgate-engine-');
  opened.defer(() => rm(dir, { recursive: true, force: true }));
  const data = join(dir, 'data');
  await run('mkdir', [data]);
  // The engine mounts its folder over itself, and leaves that behind when it is killed.
  opened.defer(async () => void (await run('umount', ['-l', data]).catch(() => {})));
  if (diskMb !== undefined)
    await run('mount', ['-t', 'tmpfs', '-o', `size=${diskMb}m`, 'podgate-engine', data]);
  const env = { ...process.env, PODMAN: isPodman ? '1' : '' };
  const engine = (verb: string, ...more: string[]) => run(ENGINE, [verb, dir, ...more], { env });
  const start = async () => void (await engine('start', ...flags));
  // Podman's containers outlive it.
  opened.defer(async () => void (await engine(isPodman ? 'clear' : 'stop')));
  await start();
  const host = `unix://${dir}/docker.sock`;
  const script = `docker -H "$1" save "$3" | docker -H "$2" load`;
  await run('bash', ['-o', 'pipefail', '-c', script, 'sh', ENGINE_HOST ?? '', host, ENGINE_IMAGE]);
  const held = opened.move();
  return {
    host,
    dir,
    data,
    start,
    stop: async () => void (await engine('stop')),
    kill: async () => void (await engine('kill')),
    freeze: (on) => {
      process.kill(Number(readFileSync(join(dir, 'dockerd.pid'), 'utf8')), on ? 'SIGSTOP' : 'SIGCONT');
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}
