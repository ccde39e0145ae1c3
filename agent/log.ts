import { logLine } from '../shared/log-lines.ts';

/** One event with flat fields. Never code, output or keys. */
export type Log = (event: string, fields?: Readonly<Record<string, unknown>>) => void;

export type JsonLogDeps = {
  /** Takes one whole line with its line feed. */
  write: (line: string) => void;
  wall: () => number;
  /** Put on every line, such as the instance. */
  fields?: Readonly<Record<string, unknown>>;
};

/** Writes one flat JSON line per event. An `Error` in a field becomes its name and message. */
export function createJsonLog({ write, wall, fields = {} }: JsonLogDeps): Log {
  return (event, own = {}) => {
    write(logLine({ time: new Date(wall()).toISOString(), event, ...fields, ...own }, plain));
  };
}

function plain(_key: string, value: unknown): unknown {
  return value instanceof Error ? `${value.name}: ${value.message}` : value;
}
