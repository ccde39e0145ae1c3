import { readFileSync } from 'node:fs';

/**
 * When a process began, in ticks since the machine's start: with its PID that names one process and no later one.
 * Undefined where there is none, or only what its parent has not buried yet.
 */
export function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in field 2 may hold spaces and brackets.
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? undefined : fields[18];
  } catch {
    return undefined;
  }
}
