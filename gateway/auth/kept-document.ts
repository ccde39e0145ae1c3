import type { AuthLog } from './documents.ts';

export type KeptDocumentDeps<T> = {
  /** What the log calls it: `deny_list`, `jwks`. */
  what: string;
  from: string;
  read: () => Promise<string>;
  /** Throws for bad content. */
  parse: (text: string) => T | Promise<T>;
  onChange: () => void;
  log: AuthLog;
};

/** A document that is read again and again, of which the last good content stays. */
export type KeptDocument<T> = {
  /** Undefined until it could be read once. */
  readonly value: T | undefined;
  /** Reads again; never rejects. Calls while one is under way share it. */
  refresh(): Promise<void>;
  /** Waits for a reading that is under way, and starts none. */
  settled(): Promise<void>;
};

export function createKeptDocument<T>({
  what,
  from,
  read,
  parse,
  onChange,
  log,
}: KeptDocumentDeps<T>): KeptDocument<T> {
  let value: T | undefined;
  let lastText: string | undefined;
  let lastTrouble: string | undefined;
  let underWay: Promise<void> | undefined;

  async function refresh(): Promise<void> {
    try {
      const text = await read();
      if (text !== lastText) {
        value = await parse(text);
        lastText = text;
        onChange();
      }
      if (lastTrouble !== undefined) log({ level: 'info', event: `${what}_readable`, from });
      lastTrouble = undefined;
    } catch (error) {
      const trouble = error instanceof Error ? error.message : String(error);
      if (trouble === lastTrouble) return;
      lastTrouble = trouble;
      const kept = value === undefined ? 'nothing' : 'last_good';
      log({ level: 'warn', event: `${what}_unreadable`, from, kept, trouble: trouble.slice(0, 500) });
    }
  }

  return {
    get value() {
      return value;
    },
    refresh() {
      underWay ??= refresh().finally(() => {
        underWay = undefined;
      });
      return underWay;
    },
    async settled() {
      await underWay;
    },
  };
}
