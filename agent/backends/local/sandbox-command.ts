import { dirname } from 'node:path';
import { runnerCommand } from '../../runner/bundle.ts';
import type { RunnerConfig } from '../../runner/runner-config.ts';

/** The descriptor on which a sandbox has its stream, both ways: one socket instead of two pipes. */
export const STREAM_FD = 3;
/** The exit code of a launcher that the machine refuses what it needs; its words are on stderr. */
export const EXIT_REFUSED = 78;

const SYSTEM_PATH = '/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin';

/** The object that podgate_runner.local_sandbox.launch takes. */
export type LaunchConfig = {
  runner: RunnerConfig;
  /** PID of the agent, with which the sandbox dies. */
  parent: number;
  stream_fd?: number;
  namespaces?: boolean;
  probe?: boolean;
  /** A control group of its own. With it a byte on the stream says that it is in there. */
  memory_group?: string;
};

/** Whom a sandbox runs as; undefined where the agent is an ordinary user, who cannot choose. */
export type SandboxUser = { uid: number; gid: number } | undefined;

export function sandboxCommand(python: string, config: LaunchConfig): { file: string; args: string[] } {
  const [file = python, ...args] = runnerCommand({ python, config, entry: 'local' });
  return { file, args };
}

/**
 * Never a line of Python as root: the process has the sandbox's UID before it begins. Nothing of the agent's own
 * environment, which holds its credential, is passed on.
 */
export function sandboxSpawnOptions(python: string, user: SandboxUser) {
  return {
    cwd: '/',
    env: { PATH: `${dirname(python)}:${SYSTEM_PATH}`, LANG: 'C.UTF-8' },
    // A session of its own: Ctrl-C in a terminal is for the agent, which then drains.
    detached: true,
    ...(user ?? {}),
  };
}
