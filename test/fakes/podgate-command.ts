import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { COMPILE_CACHE } from './compile-cache.ts';

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

export type CommandOptions = {
  /** The whole environment beside PATH and COMPILE_CACHE. */
  env?: Record<string, string>;
  /** Null leaves it open. */
  stdin?: string | Uint8Array | null;
  cwd?: string;
};

export type Ended = { status: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string };

/** `podgate …` as a process of its own. */
export type Command = {
  readonly pid: number;
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** What it has written so far. */
  text(): { stdout: string; stderr: string };
  /** Resolves with the match as soon as its output has one; rejects where it ends without. */
  shows(pattern: RegExp): Promise<RegExpExecArray>;
  kill(signal: NodeJS.Signals): void;
};

/** Starts the command; it is killed with the test that started it. */
export function startPodgate(args: readonly string[], options: CommandOptions = {}): Command {
  const command = spawnPodgate(args, options);
  onTestFinished(async () => {
    command.kill('SIGKILL');
    await command.ended;
  });
  return command;
}

/** Runs the command to its end. */
export function podgate(args: readonly string[], options: CommandOptions = {}): Promise<Ended> {
  return spawnPodgate(args, options).ended;
}

function spawnPodgate(args: readonly string[], { env = {}, stdin, cwd }: CommandOptions): Command {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd,
    env: { PATH: process.env.PATH ?? '', ...COMPILE_CACHE, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => {});
  if (stdin !== null) child.stdin.end(stdin);
  const said = { stdout: '', stderr: '' };
  const watchers = new Set<() => void>();
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text;
      for (const watcher of watchers) watcher();
    });
  const ended = once(child, 'close').then(([status, signal]) => ({ status, signal, ...said }));
  return {
    pid: child.pid as number,
    child,
    ended,
    text: () => ({ ...said }),
    shows: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(said.stdout) ?? pattern.exec(said.stderr);
          if (!match) return;
          watchers.delete(look);
          resolve(match);
        };
        watchers.add(look);
        look();
        void ended.then((end) => reject(new Error(`it ended without ${pattern}: ${JSON.stringify(end)}`)));
      }),
    kill: (signal) => void child.kill(signal),
  };
}
