import { mbToBytes, type Template } from '../../shared/template.ts';

/** The configuration of a sandbox's runner, as agent/runner/protocol.md 2.1 has it. Members left out have its defaults. */
export type RunnerConfig = {
  languages: readonly string[];
  preload: readonly string[];
  workspace?: string;
  scratch?: readonly string[];
  place: 'shared' | 'fresh';
  network: boolean;
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
  require: readonly string[];
  cgroup_root?: string;
};

/** What differs between backends. */
export type RunnerPlace = Pick<RunnerConfig, 'place' | 'attach'> &
  Partial<Pick<RunnerConfig, 'workspace' | 'scratch' | 'idle_exit_seconds' | 'cgroup_root'>>;

/** What a template asks of the runner, in the place that a backend gives it. */
export function runnerConfig(template: Template, place: RunnerPlace): RunnerConfig {
  const { resources } = template;
  return {
    languages: template.languages,
    preload: template.preload,
    network: template.network !== 'none',
    workspace_bytes: mbToBytes(resources.workspace_mb),
    tmp_bytes: mbToBytes(resources.tmp_mb),
    limits: {
      memory_bytes: mbToBytes(resources.memory_mb),
      cpu_seconds: resources.cpu_seconds,
      processes: resources.processes,
      open_files: resources.open_files,
      file_bytes: mbToBytes(resources.file_mb),
    },
    require: template.require,
    ...place,
  };
}
