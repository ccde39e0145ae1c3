import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { descendants, isAlive, type ProcessName } from './process-tree.ts';

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));
const KEPT_LINES = 2_000;
/** Of each run, however many follow: what it says when it starts. */
const FIRST_LINES = 50;

export type LogLine = Readonly<Record<string, unknown>> & { readonly event: string };

/** A gateway or an agent that runs as a process of its own, and may be started again under the same name. */
export type FleetProcess = {
  readonly name: string;
  /** Undefined while it does not run. */
  readonly pid: number | undefined;
  /** How often it was started. */
  readonly runs: number;
  /** The last lines of its log, of every run. */
  readonly log: readonly LogLine[];
  /** What it wrote to standard error: nothing, unless something broke. */
  readonly complaints: string;
  start(): void;
  /** Without effect while it does not run. */
  kill(signal: NodeJS.Signals): void;
  /** Resolves with the exit status, or the signal's name, of the run that is on its way; at once where there is none. */
  ended(): Promise<number | string | undefined>;
  /** Resolves with the first line of this run that matches, past or to come; rejects where the run ends without. */
  logged(matches: (line: LogLine) => boolean): Promise<LogLine>;
  residentBytes(): number;
  /** Processes below it that are not its own program: sandboxes and their keepers. */
  sandboxProcesses(): ProcessName[];
  /** Of the sandboxes of runs that were killed, what is alive still. */
  leftBehind(): ProcessName[];
};

export type FleetProcessOptions = {
  name: string;
  args: readonly string[];
  environment: Readonly<Record<string, string>>;
  /** The log goes here too, all of it. */
  logFile?: string | undefined;
};

export function createFleetProcess({ name, args, environment, logFile }: FleetProcessOptions): FleetProcess {
  const log: LogLine[] = [];
  const watchers = new Set<(line: LogLine | null) => void>();
  const orphans: ProcessName[] = [];
  const file = logFile === undefined ? undefined : createWriteStream(logFile, { flags: 'a' });
  let child: ChildProcess | undefined;
  let ending: Promise<number | string> | undefined;
  let firstLine = 0;
  let dropped = 0;
  let runs = 0;
  let opening: LogLine[] = [];
  let complaints = '';

  function record(text: string): void {
    file?.write(`${text}\n`);
    let line: LogLine;
    try {
      line = JSON.parse(text);
    } catch {
      complaints += `${text}\n`;
      return;
    }
    log.push(line);
    if (opening.length < FIRST_LINES) opening.push(line);
    if (log.length > KEPT_LINES) dropped += log.splice(0, log.length - KEPT_LINES).length;
    for (const watcher of [...watchers]) watcher(line);
  }

  function start(): void {
    if (child) throw new Error(`${name} runs already`);
    runs += 1;
    opening = [];
    firstLine = log.length + dropped;
    const started = spawn(process.execPath, [MAIN, ...args], {
      env: { PATH: process.env.PATH ?? '', ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child = started;
    if (started.stdout) createInterface(started.stdout).on('line', record);
    started.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaints += text;
      file?.write(text);
    });
    ending = once(started, 'close').then(([status, signal]) => {
      if (child === started) child = undefined;
      for (const watcher of [...watchers]) watcher(null);
      return status ?? signal;
    });
  }

  const sandboxProcesses = () => (child?.pid === undefined ? [] : descendants(child.pid));

  return {
    name,
    get pid() {
      return child?.pid;
    },
    get runs() {
      return runs;
    },
    log,
    get complaints() {
      return complaints;
    },
    start,
    kill(signal) {
      if (signal === 'SIGKILL') orphans.push(...sandboxProcesses());
      child?.kill(signal);
    },
    ended: async () => ending,
    logged: (matches) =>
      new Promise((resolve, reject) => {
        const past = [...opening, ...log.slice(Math.max(0, firstLine - dropped))].find(matches);
        if (past) return resolve(past);
        const look = (line: LogLine | null) => {
          if (line && !matches(line)) return;
          watchers.delete(look);
          if (line) resolve(line);
          else reject(new Error(`${name} ended first: ${complaints}${JSON.stringify(log.slice(-5))}`));
        };
        watchers.add(look);
        if (!child) look(null);
      }),
    residentBytes: () => (child?.pid === undefined ? 0 : residentBytes(child.pid)),
    sandboxProcesses,
    leftBehind: () => orphans.filter(isAlive),
  };
}

function residentBytes(pid: number): number {
  try {
    return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1_024;
  } catch {
    return 0;
  }
}
