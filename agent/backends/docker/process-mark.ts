import { readFileSync, readlinkSync } from 'node:fs';
import { startTimeOf } from '../../process-name.ts';

/** Names one process of one machine: `boot/namespace/pid/start time`. */
export type ProcessMark = string;

/** This process; undefined where /proc does not tell. */
export function ownMark(): ProcessMark | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    const namespace = readlinkSync('/proc/self/ns/pid').replace(/\D/g, '');
    const start = startTimeOf(process.pid);
    return start === undefined ? undefined : [boot, namespace, process.pid, start].join('/');
  } catch {
    return undefined;
  }
}

/** Whether the process that a mark names lives; undefined where that cannot be seen from here. */
export function isMarkAlive(mark: ProcessMark, own: ProcessMark | undefined): boolean | undefined {
  const [boot, namespace, pid, start] = mark.split('/');
  const [ownBoot, ownNamespace] = own?.split('/') ?? [];
  if (boot === undefined || boot !== ownBoot || namespace !== ownNamespace) return undefined;
  return startTimeOf(Number(pid)) === start;
}
