import {
  createSandbox,
  PYTHONS,
  type Sandbox,
  type SandboxOptions,
  sandboxTrouble,
} from './runner-process.ts';

/** Where the runner's own tests run it. */
export type SandboxKind = {
  /** Named in the tests' titles. */
  readonly pythons: readonly string[];
  /** Why there can be no such sandbox; undefined where there can. */
  trouble(python: string, options: SandboxOptions): string | undefined;
  create(options: SandboxOptions): Promise<Sandbox>;
};

let kind: SandboxKind = { pythons: PYTHONS, trouble: sandboxTrouble, create: createSandbox };

/** Namespaces of this machine, unless the file that is being collected asked for something else. */
export function sandboxKind(): SandboxKind {
  return kind;
}

export function useSandboxKind(other: SandboxKind): void {
  kind = other;
}
