import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** One process and no later one of the same number. */
export type ProcessName = { readonly pid: number; readonly startTime: string; readonly comm: string };

/**
 * All that descends from a process now, below children that `follow` takes. What is born in a PID namespace cannot leave
 * this tree: orphans fall to its PID 1.
 */
export function descendants(root: number, follow: (pid: number) => boolean = () => true): ProcessName[] {
  const children = new Map<number, ProcessName[]>();
  for (const name of readdirSync('/proc')) {
    const found = /^\d+$/.test(name) ? readProcess(Number(name)) : undefined;
    if (found) children.set(found.parent, [...(children.get(found.parent) ?? []), found.name]);
  }
  const found: ProcessName[] = [];
  const queue = [root];
  for (let parent = queue.shift(); parent !== undefined; parent = queue.shift()) {
    for (const child of children.get(parent) ?? []) {
      if (!follow(child.pid)) continue;
      found.push(child);
      queue.push(child.pid);
    }
  }
  return found;
}

/** Whether that very process still is there; one that only waits to be reaped is not. */
export function isAlive({ pid, startTime }: ProcessName): boolean {
  const now = readProcess(pid);
  return now !== undefined && now.name.startTime === startTime && now.state !== 'Z';
}

/** Undefined where there is no such process any more. */
export function parentOf(pid: number): number | undefined {
  return readProcess(pid)?.parent;
}

/** How many processes were started with exactly these arguments, wherever they live. */
export function countRunning(...command: string[]): number {
  const wanted = `${command.join('\0')}\0`;
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && read(`${name}/cmdline`) === wanted)
    .length;
}

/** Processes that were started with this path among their arguments, or see it mounted, wherever they live. */
export function processesSeeing(path: string): ProcessName[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    if (!read(`${name}/cmdline`).includes(path) && !read(`${name}/mountinfo`).includes(path)) return [];
    const found = readProcess(Number(name));
    return found && found.state !== 'Z' ? [found.name] : [];
  });
}

/** Whether a process runs the program of this one: a command that a test started, no sandbox. */
export function isNode(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`) === process.execPath;
  } catch {
    return false;
  }
}

function readProcess(pid: number): { name: ProcessName; parent: number; state: string } | undefined {
  const stat = read(`${pid}/stat`);
  // The name may hold spaces and brackets; what follows is fields 3 and on.
  const close = stat.lastIndexOf(')');
  if (close === -1) return undefined;
  const [state = '', parent, ...rest] = stat.slice(close + 2).split(' ');
  const comm = stat.slice(stat.indexOf('(') + 1, close);
  return { name: { pid, startTime: rest[17] ?? '', comm }, parent: Number(parent), state };
}

function read(path: string): string {
  try {
    return readFileSync(`/proc/${path}`, 'latin1');
  } catch {
    return '';
  }
}
