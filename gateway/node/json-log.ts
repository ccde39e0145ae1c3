import { logLine } from '../../shared/log-lines.ts';
import type { Log } from '../gateway-deps.ts';

/** One flat JSON line an event. `write` takes whole lines with their line feed. */
export function createJsonLog(write: (line: string) => void, now: () => number = Date.now): Log {
  return ({ level, event, ...fields }) => {
    write(logLine({ time: new Date(now()).toISOString(), level, event, ...fields }));
  };
}
