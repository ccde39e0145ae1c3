import type { Template } from '../../../shared/template.ts';
import { runnerCommand } from '../../runner/bundle.ts';
import { runnerConfig } from '../../runner/runner-config.ts';
import type { SandboxOptions } from '../backend.ts';
import { RUNNER_PLACE } from '../runner-place.ts';
import { sandboxName } from '../sandbox-name.ts';
import type { V1Pod } from './kube-config.ts';
import { drawUid, type PodIdentity, podSpec } from './pod-spec.ts';

export type DrawPodDeps = Pick<PodIdentity, 'namespace' | 'installation' | 'instance' | 'lease'> & {
  random: () => number;
};

/** A pod as it is asked for: a name and a UID are drawn for each. */
export function drawPod(
  { random, ...deps }: DrawPodDeps,
  template: Template,
  { foreignEnv, ...options }: SandboxOptions & { /** Variables to drop. */ foreignEnv: readonly string[] },
): { name: string; python: string; body: V1Pod } {
  const python = template.python ?? 'python3';
  const name = sandboxName(template.name, random);
  const place = { ...RUNNER_PLACE, ...(foreignEnv.length === 0 ? {} : { foreign_env: foreignEnv }) };
  const command = runnerCommand({ python, config: runnerConfig(template, place, options) });
  const { unfiltered = false } = options;
  const identity = { ...deps, name, uid: drawUid(template, random), unfiltered };
  return { name, python, body: podSpec(template, identity, command) };
}
