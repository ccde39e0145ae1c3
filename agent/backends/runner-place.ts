import type { RunnerPlace } from '../runner/runner-config.ts';

export const WORKSPACE = '/workspace';
/** PID 1 ends the sandbox when no stream has reached it for so long: an agent that is gone for good leaves nothing running. */
export const IDLE_EXIT_SECONDS = 120;

/**
 * A container weighs on its node what its limits say, so this is only who goes first within: a hundred processes of a
 * program together have three fifths of a processor while the runner, or who else is to end them, wants it.
 */
const PROGRAM_NICE = 19;

/** The runner in a pod or container: that is the sandbox, and the runner waits for shims. */
export const RUNNER_PLACE = {
  place: 'shared',
  attach: 'socket',
  workspace: WORKSPACE,
  scratch: ['/tmp', '/dev/shm'],
  idle_exit_seconds: IDLE_EXIT_SECONDS,
  program_nice: PROGRAM_NICE,
} as const satisfies RunnerPlace;
