import { mbToBytes, type Template } from '../../shared/template.ts';
import type { SandboxOptions } from '../backends/backend.ts';

/** The configuration of a sandbox's runner, as agent/runner/protocol.md 2.1 has it. Members left out have its defaults. */
export type RunnerConfig = {
  languages: readonly string[];
  preload: readonly string[];
  workspace?: string;
  scratch?: readonly string[];
  place: 'shared' | 'fresh';
  network: boolean;
  /** What libraries that keep threads of their own are told to use. */
  threads: number;
  workspace_bytes: number;
  tmp_bytes: number;
  limits: {
    memory_bytes: number;
    cpu_seconds: number;
    processes: number;
    open_files: number;
    file_bytes: number;
  };
  attach: 'stdio' | 'socket';
  idle_exit_seconds?: number;
  /** How much less of the processor than the runner its programs get, as nice(2) counts. */
  program_nice?: number;
  require: readonly string[];
  /** Variables that are not the image's. */
  foreign_env?: readonly string[];
  cgroup_root?: string;
};

/** What differs between backends. */
export type RunnerPlace = Pick<RunnerConfig, 'place' | 'attach'> &
  Partial<
    Pick<
      RunnerConfig,
      'workspace' | 'scratch' | 'idle_exit_seconds' | 'program_nice' | 'foreign_env' | 'cgroup_root'
    >
  >;

/** What the runner itself can hold; the rest of what a template may require is the canary's to find out. */
const RUNNERS_OWN: readonly string[] = ['seccomp', 'landlock'];

/**
 * A thread of OpenBLAS reserves 128 MiB (0.3.21), which counts against the program's memory, and waits for ever where it
 * gets none.
 */
const MEMORY_MB_PER_THREAD = 256;

/** As many as the template has processors and memory for, not as the machine has. */
function threadsOf({ cpus, memory_mb }: Template['resources']): number {
  return Math.max(1, Math.min(Math.ceil(cpus), Math.floor(memory_mb / MEMORY_MB_PER_THREAD)));
}

/** What a template asks of the runner, in the place that a backend gives it. */
export function runnerConfig(
  template: Template,
  place: RunnerPlace,
  options: SandboxOptions = {},
): RunnerConfig {
  const { resources } = template;
  return {
    // The runner is Python, and so is the canary; what callers may use is checked against the template.
    languages: [...new Set(['python', ...template.languages])],
    preload: template.preload,
    network: template.network !== 'none' || options.unfiltered === true,
    threads: threadsOf(resources),
    workspace_bytes: mbToBytes(resources.workspace_mb),
    tmp_bytes: mbToBytes(resources.tmp_mb),
    limits: {
      memory_bytes: mbToBytes(resources.memory_mb),
      cpu_seconds: resources.cpu_seconds,
      processes: resources.processes,
      open_files: resources.open_files,
      file_bytes: mbToBytes(resources.file_mb),
    },
    require: template.require.filter((name) => RUNNERS_OWN.includes(name)),
    ...place,
  };
}
